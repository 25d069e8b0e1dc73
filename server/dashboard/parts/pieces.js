// Small things that several pages show.
import { html, useState } from "../html.js";

export function Failure({ error }) {
  if (!error) return null;
  const fields = error.fields?.length > 1 ? error.fields : []; // one alone is in the message
  const lines = fields.map((field) => html`<li><code>${field.pointer}</code>: ${field.detail}</li>`);
  return html`<div class="note bad" role="alert">${error.message}${lines.length > 0 && html`<ul>${lines}</ul>`}</div>`;
}

export function Status({ status }) {
  return html`<span class=${`status ${status}`}>${status}</span>`;
}

export function Progress({ job }) {
  const { epochs_done: done, epochs_total: total } = job.progress;
  if (!total) return html`<span class="quiet">${job.kind}</span>`;
  return html`<progress max=${total} value=${done} aria-label=${`${done} of ${total} epochs`}></progress> ${done}/${total}`;
}

/** Facts of a thing: names and values, without those that are not there. */
export function Facts({ of }) {
  const given = Object.entries(of).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${given.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

/** Does something, once; says what went wrong beside itself. */
export function Button({ does, children, sure, ...more }) {
  const [state, setState] = useState({ busy: false, error: null });
  const act = async () => {
    if (sure && !confirm(sure)) return;
    setState({ busy: true, error: null });
    try {
      await does();
      setState({ busy: false, error: null });
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return html`<button ...${more} disabled=${state.busy || more.disabled} onClick=${act}>${children}</button>
    ${state.error && html`<span class="bad-text" role="alert">${state.error.message}</span>`}`;
}

/** A table that scrolls by itself; no rows are those that are still asked for. columns: [{ name, of(row), number?, wrap? }]. */
export function Table({ columns, rows, empty = "nothing yet", caption }) {
  if (!rows) return html`<p class="loading">…</p>`;
  if (!rows.length) return html`<p class="quiet">${empty}</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table>
    <thead><tr>${columns.map((column) => html`<th scope="col" class=${column.number ? "number" : ""}>${column.name}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.id}>${columns.map(
      (column) => html`<td class=${`${column.number ? "number" : ""} ${column.wrap ? "wrap" : ""}`}>${column.of(row)}</td>`,
    )}</tr>`)}</tbody>
  </table></div>`;
}

/** One of several: choices are values, or pairs of a value and what it is called. */
export function Select({ label, value, choices, none, take, ...more }) {
  const pairs = choices.map((choice) => (Array.isArray(choice) ? choice : [choice, choice]));
  return html`<label ...${more}>${label} <select value=${value} onChange=${(event) => take(event.target.value)}>
    ${none !== undefined && html`<option key="" value="">${none}</option>`}
    ${pairs.map(([each, name]) => html`<option key=${each} value=${each}>${name}</option>`)}
  </select></label>`;
}
