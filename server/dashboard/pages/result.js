// What a job found, as its kind shows it.
import { number, value } from "../format.js";
import { html } from "../html.js";
import { Facts, Table } from "../parts/pieces.js";

const SCORES = [
  ["calibrated_efficiency", "calibrated η"],
  ["calibrated_violation_rate", "at V"],
  ["efficiency", "as it is η"],
  ["violation_rate", "V"],
];

const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(2)} %`);

function scoresTable(scores) {
  const rows = Object.entries(scores).map(([id, score]) => ({ id, ...score }));
  const columns = [
    { name: "rule", of: (row) => row.id },
    ...SCORES.map(([key, name]) => ({ name, number: true, of: (row) => (key.endsWith("rate") ? percent(row[key]) : number(row[key])) })),
  ];
  return html`<${Table} caption="Scores on held-out systems" columns=${columns} rows=${rows} />`;
}

export function Result({ job }) {
  const { kind, result } = job;
  if (kind === "train" && result.stepper) {
    return html`<h2>On held-out systems</h2>${scoresTable({ "trained stepper": result.stepper, "free-fall criterion": result.free_fall })}`;
  }
  if (kind === "evaluate" && result.scores) return html`<h2>On held-out systems</h2>${scoresTable(result.scores)}`;
  const { systems = [], warnings = [], ...figures } = result;
  const bodies = systems.flatMap((system, n) =>
    (system.orbits?.initial ?? []).map((first, m) => ({ id: `${n}/${m}`, system: n, first, last: system.orbits.final[m] })),
  );
  return html`<h2>Result</h2>
    ${warnings.map((text) => html`<div class="note warn">${text}</div>`)}
    <${Facts} of=${Object.fromEntries(Object.entries(figures).map(([name, each]) => [name.replaceAll("_", " "), value(each)]))} />
    ${bodies.length > 0 && html`<${Table} caption="Orbits" rows=${bodies} columns=${[
      { name: "system", number: true, of: (row) => row.system },
      { name: "body", number: true, of: (row) => row.first.body },
      { name: "about", of: (row) => row.last.around },
      { name: "a, first", number: true, of: (row) => number(row.first.semi_major_axis, 6) },
      { name: "a, last", number: true, of: (row) => number(row.last.semi_major_axis, 6) },
      { name: "e, first", number: true, of: (row) => number(row.first.eccentricity) },
      { name: "e, last", number: true, of: (row) => number(row.last.eccentricity) },
    ]} />`}`;
}
