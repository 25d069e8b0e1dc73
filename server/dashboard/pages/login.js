// A token is shown once; from then on a cookie stands for it. The page keeps none.
import { post } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { Failure } from "../parts/pieces.js";

export function Login({ why, given, done }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  const show = async (secret) => {
    try {
      setError(null);
      await post("/v1/session", { token: secret.trim() });
      done();
    } catch (failure) {
      setError(failure.status === 401 ? new Error("This server does not know that token, or it is a worker's.") : failure);
    }
  };
  useEffect(() => {
    if (given) show(given.secret);
  }, [given]);
  return html`<main class="login"><h1>Orrery</h1>
    ${why && html`<p class="note warn" role="status">${why}</p>`}
    <form onSubmit=${(event) => {
      event.preventDefault();
      show(token);
    }}>
      <p><label>Token
        <input type="password" autocomplete="off" required ref=${(box) => box?.focus()} value=${token} onInput=${(event) => setToken(event.target.value)} />
      </label></p>
      <p><button class="main" type="submit">Sign in</button></p>
    </form>
    <${Failure} error=${error} />
    <p class="quiet">An admin makes one with <code>orrery token create NAME</code>; the server's own is in the
      file <code>.orrery/admin.token</code> of its data folder.</p>
  </main>`;
}
