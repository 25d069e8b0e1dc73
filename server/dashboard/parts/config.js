// Configs side by side: by default only the fields that differ, from each other or the defaults.
import { get } from "../api.js";
import { value } from "../format.js";
import { html, useState } from "../html.js";
import { useLoaded } from "../load.js";

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** The fields of a Config and their defaults, by the server's schema. */
export function useSchema() {
  const loaded = useLoaded(() => get("/v1/schemas/config"), []);
  return loaded.data;
}

export function defaultsOf(schema) {
  return Object.fromEntries(Object.entries(schema.properties).map(([name, field]) => [name, field.default ?? null]));
}

/** Fields whose values are not all equal; of one config, those that are not its defaults. */
export function differing(configs, defaults) {
  const fields = [...new Set(configs.flatMap(Object.keys))];
  return fields.filter((field) =>
    configs.length > 1
      ? configs.some((config) => !same(config[field], configs[0][field]))
      : !same(configs[0][field], defaults[field]),
  );
}

export function ConfigTable({ configs, names }) {
  const [every, setEvery] = useState(false);
  const schema = useSchema();
  if (!schema) return html`<p class="loading">Loading …</p>`;
  const defaults = defaultsOf(schema);
  const fields = every ? [...new Set(configs.flatMap(Object.keys))].sort() : differing(configs, defaults);
  const shown = names.length === 1 ? [...configs, defaults] : configs;
  const heads = names.length === 1 ? [...names, "default"] : names;
  return html`<label class="beside"><input type="checkbox" checked=${every} onChange=${(event) => setEvery(event.target.checked)} /> all fields</label>
    ${fields.length === 0 && html`<p class="quiet">no field differs</p>`}
    ${fields.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Config"><table>
      <thead><tr><th scope="col">field</th>${heads.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>${fields.map((field) => html`<tr key=${field}><th scope="row">${field}</th>
        ${shown.map((config) => html`<td class="wrap mono">${value(config[field])}</td>`)}</tr>`)}</tbody>
    </table></div>`}`;
}
