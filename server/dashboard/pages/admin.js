// Tokens, and what people did.
import { get, post, remove } from "../api.js";
import { instant } from "../format.js";
import { html, useState } from "../html.js";
import { useLoaded } from "../load.js";
import { Button, Failure, Select, Table } from "../parts/pieces.js";

const ROLES = ["user", "viewer", "worker", "admin"];

export default function Admin() {
  const tokens = useLoaded((signal) => get("/v1/tokens", {}, { signal }), []);
  const audit = useLoaded((signal) => get("/v1/audit", { limit: 200 }, { signal }), []);
  const again = () => {
    tokens.again();
    audit.again();
  };
  return html`<h1>Admin</h1>
    <h2>Tokens</h2>
    <${NewToken} done=${again} />
    <${Failure} error=${tokens.error || audit.error} />
    <${Table} caption="Tokens" rows=${tokens.data && [...tokens.data.data].reverse()} columns=${[
      { name: "name", of: (token) => token.name },
      { name: "role", of: (token) => token.role },
      { name: "made", of: (token) => instant(token.created_at) },
      { name: "until", of: (token) => instant(token.expires_at) },
      { name: "revoked", of: (token) => instant(token.revoked_at) },
      { name: "id", of: (token) => html`<code>${token.id}</code>` },
      { name: "revoke", of: (token) => !token.revoked_at && html`<${Button} aria-label=${`revoke ${token.name}`} sure=${`Revoke ${token.name}? Whoever uses it is shut out.`} does=${async () => {
        await remove(`/v1/tokens/${token.id}`);
        again();
      }}>revoke</${Button}>` },
    ]} />
    <h2>What people did</h2>
    <${Table} caption="Audit" rows=${audit.data?.data} columns=${[
      { name: "when", of: (entry) => instant(entry.at) },
      { name: "token", of: (entry) => tokens.data?.data.find((token) => token.id === entry.token_id)?.name ?? entry.token_id },
      { name: "did", of: (entry) => entry.action },
      { name: "to", of: (entry) => html`<code>${entry.target}</code>` },
    ]} />`;
}

function NewToken({ done }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState("user");
  const [days, setDays] = useState("");
  const [made, setMade] = useState(null);
  const make = async () => {
    setMade(await post("/v1/tokens", { name, role, ...(days ? { expires_in_s: 86400 * Number(days) } : {}) }));
    done();
  };
  return html`<div class="row">
      <label>Name <input value=${name} onInput=${(event) => setName(event.target.value)} /></label>
      <${Select} label="Role" value=${role} choices=${ROLES} take=${setRole} />
      <label>Days, or for good <input type="number" min="1" value=${days} onInput=${(event) => setDays(event.target.value)} /></label>
      <${Button} disabled=${!name.trim()} does=${make}>Make a token</${Button}>
    </div>
    ${made && html`<div class="note" role="status">Token of <b>${made.name}</b>, shown this once: <code>${made.secret}</code></div>`}`;
}
