// One field of a Config, drawn by its schema.
import { html, useState } from "../html.js";

/** How a field is asked for: { choices? , kind: "choice" | "flag" | "number" | "text" | "json", mayBeNull }. */
export function shapeOf(field) {
  const forms = field.anyOf ?? [field];
  const mayBeNull = forms.some((form) => form.type === "null");
  const real = forms.filter((form) => form.type !== "null");
  const choices = real.flatMap((form) => form.enum ?? (form.const === undefined ? [] : [form.const]));
  if (real.length === 1 && choices.length) return { kind: "choice", choices, mayBeNull };
  if (real.length === 1 && real[0].type === "boolean") return { kind: "flag", mayBeNull };
  if (real.every((form) => ["number", "integer"].includes(form.type))) return { kind: "number", mayBeNull };
  if (real.every((form) => form.type === "string")) return { kind: "text", mayBeNull };
  return { kind: "json", mayBeNull };
}

/** What a text means as a value of a field: [value, problem]. */
export function readAs({ kind, mayBeNull }, text) {
  const bare = text.trim();
  if (bare === "" && mayBeNull) return [null, ""];
  if (kind === "text") return [text, ""];
  if (kind === "number") {
    const number = Number(bare);
    return bare === "" || Number.isNaN(number) ? [null, "use a number"] : [number, ""];
  }
  try {
    return [JSON.parse(bare), ""];
  } catch {
    return /^[\w/.-]+$/.test(bare) ? [bare, ""] : [null, "use JSON, as in [64, 64]"];
  }
}

export function Field({ name, field, given, isChanged, problem, put }) {
  const shape = shapeOf(field);
  const asText = given === null ? "" : typeof given === "string" ? given : JSON.stringify(given);
  const [typed, setTyped] = useState(null); // what stands there while it is no value
  const hint = `hint-${name}`;
  const more = { id: `field-${name}`, "aria-describedby": hint, "aria-invalid": problem ? "true" : undefined };
  const take = (text) => {
    const [value, wrong] = readAs(shape, text);
    setTyped(wrong ? text : null);
    put(name, value, wrong);
  };
  return html`<label class=${isChanged ? "changed" : ""}><span>${name}</span>
    ${control(shape, asText, given, typed, setTyped, take, put, name, more)}
    <span class="hint" id=${hint}>${problem ? html`<span class="bad-text">${problem}</span> ` : ""}${field.description}</span></label>`;
}

function control(shape, asText, given, typed, type, take, put, name, more) {
  if (shape.kind === "choice" || shape.kind === "flag") {
    const choices = shape.kind === "flag" ? [true, false] : shape.choices;
    const all = shape.mayBeNull ? [null, ...choices] : choices;
    return html`<select ...${more} value=${JSON.stringify(given)} onChange=${(event) => put(name, JSON.parse(event.target.value), "")}>
      ${all.map((choice) => html`<option value=${JSON.stringify(choice)}>${choice === null ? "–" : String(choice)}</option>`)}</select>`;
  }
  return html`<input ...${more} inputmode=${shape.kind === "number" ? "decimal" : "text"} placeholder=${shape.mayBeNull ? "null" : ""}
    value=${typed ?? asText} onInput=${(event) => type(event.target.value)} onChange=${(event) => take(event.target.value)} />`;
}
