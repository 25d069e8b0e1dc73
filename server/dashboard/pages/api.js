// The API's reference, which tries requests as whoever is signed in.
import { get } from "../api.js";
import { html, useState } from "../html.js";
import { useLoaded } from "../load.js";
import { Failure } from "../parts/pieces.js";
import { ours } from "../query.js";

const METHODS = ["get", "post", "patch", "put", "delete"];

export default function Api() {
  const [sought, setSought] = useState("");
  const spec = useLoaded(() => get("/openapi.json"), []);
  if (!spec.data) return spec.error ? html`<h1>API</h1><${Failure} error=${spec.error} />` : html`<p class="loading">Loading …</p>`;
  const routes = Object.entries(spec.data.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => ({ path, method, about: methods[method] })),
  );
  const shown = routes.filter(({ path, about }) => `${path} ${about.description ?? ""}`.toLowerCase().includes(sought.toLowerCase()));
  return html`<h1>API</h1>
    <p>As <a href="openapi.json">OpenAPI</a>. Scripts send <code>Authorization: Bearer TOKEN</code>; here requests are yours, and they are real.</p>
    <label>Find <input type="search" value=${sought} onInput=${(event) => setSought(event.target.value)} /></label>
    ${shown.map((route) => html`<${Route} key=${`${route.method} ${route.path}`} ...${route} spec=${spec.data} />`)}`;
}

const firstSentence = (text) => text.replaceAll("\n", " ").replaceAll("`", "").split(/(?<=\.) /)[0];

function Route({ path, method, about, spec }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary><code>${method.toUpperCase()} ${path}</code> <span class="quiet">${firstSentence(about.description ?? about.summary ?? "")}</span></summary>
    ${open && html`<${Trial} path=${path} method=${method} about=${about} spec=${spec} />`}
  </details>`;
}

function Trial({ path, method, about, spec }) {
  const parameters = (about.parameters ?? []).filter((each) => each.in !== "header");
  const schema = about.requestBody?.content?.["application/json"]?.schema;
  const example = about.requestBody?.content?.["application/json"]?.example ?? exampleOf(schema, spec);
  const [given, setGiven] = useState({});
  const [body, setBody] = useState(schema ? JSON.stringify(example ?? {}, null, 2) : "");
  const [answer, setAnswer] = useState(null);
  const missing = parameters.filter((each) => each.required && !given[each.name]).map((each) => each.name);
  const send = async () => {
    const url = new URL(ours(path).replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(given[name])), location.href.split("#")[0]);
    for (const each of parameters.filter((one) => one.in === "query" && given[one.name])) {
      for (const one of given[each.name].split("\n")) url.searchParams.append(each.name, one);
    }
    const found = await fetch(url, { method: method.toUpperCase(), ...(schema ? { body, headers: { "Content-Type": "application/json" } } : {}) });
    const text = await found.text();
    setAnswer({ status: `${found.status} ${found.statusText}`, text: pretty(text) });
  };
  return html`<fieldset><legend>Try it</legend>
    <p>${about.description}</p>
    <div class="form">${parameters.map((each) => html`<label><span>${each.name}${each.required ? " (needed)" : ""}</span>
      <input value=${given[each.name] ?? ""} onInput=${(event) => setGiven({ ...given, [each.name]: event.target.value })} />
      <span class="hint">${each.description ?? ""}</span></label>`)}</div>
    ${schema && html`<label>Body <textarea rows="8" class="mono" value=${body} onInput=${(event) => setBody(event.target.value)}></textarea></label>`}
    <p><button class="main" disabled=${missing.length > 0} onClick=${send}>Send</button> ${missing.length > 0 && html`<span class="quiet">needs ${missing.join(", ")}</span>`}</p>
    ${answer && html`<p role="status"><b>${answer.status}</b></p><pre tabindex="0">${answer.text}</pre>`}
  </fieldset>`;
}

function exampleOf(schema, spec) {
  const name = schema?.$ref?.split("/").pop();
  const found = name ? spec.components.schemas[name] : schema;
  return found?.example ?? found?.examples?.[0];
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2).slice(0, 100000);
  } catch {
    return text.slice(0, 100000);
  }
}
