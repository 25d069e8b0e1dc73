// A new sweep: what its trials share, which fields they search, and for what.
import { get, post } from "../api.js";
import { html, useState } from "../html.js";
import { useLoaded } from "../load.js";
import { defaultsOf, useSchema } from "../parts/config.js";
import { shapeOf } from "../parts/field.js";
import { Button, Select } from "../parts/pieces.js";
import { go } from "../route.js";

const SCORE = "stepper.calibrated_efficiency";

export function NewSweep() {
  const schema = useSchema();
  const presets = useLoaded(() => get("/v1/presets"), []);
  const [about, setAbout] = useState({ name: "", preset: "", epochs: "", n_trials: "20", parallelism: "1", objective: SCORE, direction: "maximize" });
  const [space, setSpace] = useState([]);
  const metrics = useLoaded(() => get("/v1/schemas/columns"), []);
  if (!schema) return null;
  const put = (name) => (given) => setAbout((before) => ({ ...before, [name]: given.target?.value ?? given }));
  const box = (name, label, more) => html`<label>${label} <input value=${about[name]} onInput=${put(name)} ...${more} /></label>`;
  const submit = async () => go("sweeps", (await post("/v1/sweeps", request(about, space, presets.data?.data ?? [], schema))).id);
  return html`<details class="more"><summary>New sweep</summary><fieldset><legend>New sweep</legend>
    <div class="form">
      ${box("name", "Name")}
      <${Select} label="What its trials share" value=${about.preset} none="the defaults" choices=${(presets.data?.data ?? []).map((each) => each.id)} take=${put("preset")} />
      ${box("epochs", "Epochs of each, if others than there", { type: "number", min: 1 })}
      ${box("n_trials", "Trials", { type: "number", min: 1, max: 1000 })}
      ${box("parallelism", "At a time", { type: "number", min: 1, max: 64 })}
      <${Select} label="For" value=${about.objective} choices=${[SCORE, ...(metrics.data?.metrics ?? [])]} take=${put("objective")} />
      <${Select} label="Better is" value=${about.direction} choices=${[["maximize", "more"], ["minimize", "less"]]} take=${put("direction")} />
    </div>
    <${Select} label="Search a field" value="" none="–" choices=${Object.keys(schema.properties).filter((name) => !space.some((each) => each.name === name))} take=${(name) => name && setSpace([...space, { name, low: "", high: "", log: false, values: "" }])} />
    ${space.map((each, n) => html`<${Dimension} key=${each.name} of=${each} field=${schema.properties[each.name]} put=${(news) => setSpace(space.flatMap((one, k) => (k === n ? (news ? [{ ...one, ...news }] : []) : [one])))} />`)}
    <p><${Button} class="main" disabled=${!space.length} does=${submit}>Start the sweep</${Button}></p>
  </fieldset></details>`;
}

const isNumber = (field) => shapeOf(field).kind === "number";

function Dimension({ of, field, put }) {
  const box = (name, label) => html`<label>${label} <input aria-label=${`${label} of ${of.name}`} placeholder=${name === "values" ? "64, 128 or [32, 32], [64, 64]" : ""} value=${of[name]} onInput=${(event) => put({ [name]: event.target.value })} /></label>`;
  return html`<div class="row centre"><b>${of.name}</b>
    ${isNumber(field) && html`${box("low", "from")}${box("high", "to")}
      <label class="beside"><input type="checkbox" checked=${of.log} onChange=${(event) => put({ log: event.target.checked })} /> by its logarithm</label>`}
    ${box("values", isNumber(field) ? "or one of" : "one of")}<button aria-label=${`do not search ${of.name}`} onClick=${() => put(null)}>✕</button></div>`;
}

/** What the server is asked for. Values are JSON, with or without the brackets around them. */
function request(about, space, presets, schema) {
  const shared = presets.find((each) => each.id === about.preset)?.config ?? {};
  const defaults = defaultsOf(schema);
  const dimensions = space.map(({ name, low, high, log, values }) => {
    if (values.trim()) return [name, { type: "choice", values: listed(name, values) }];
    const whole = (schema.properties[name].anyOf ?? [schema.properties[name]]).some((form) => form.type === "integer");
    return [name, { type: whole ? "int" : "float", low: numbered(name, low), high: numbered(name, high), ...(log ? { log } : {}) }];
  });
  const config = Object.fromEntries(Object.entries({ ...shared, ...(about.epochs ? { epochs: Number(about.epochs) } : {}) }).filter(([name, each]) => JSON.stringify(each) !== JSON.stringify(defaults[name])));
  return { ...(about.name ? { name: about.name } : {}), config, space: Object.fromEntries(dimensions), n_trials: Number(about.n_trials), parallelism: Number(about.parallelism), objective: about.objective, direction: about.direction };
}

function numbered(name, text) {
  if (text.trim() === "" || Number.isNaN(Number(text))) throw new Error(`${name}: give numbers to search between, or values.`);
  return Number(text);
}

function listed(name, text) {
  for (const each of [text, `[${text}]`, JSON.stringify(text.split(",").map((one) => one.trim()))]) {
    try {
      const found = JSON.parse(each);
      if (Array.isArray(found)) return found;
    } catch {
      // the next way to read it
    }
  }
  throw new Error(`${name}: give values as in 64, 128.`);
}
