// What a job found, as its kind shows it.
import { get } from "../api.js";
import { number, percent, value } from "../format.js";
import { html } from "../html.js";
import { useLoaded } from "../load.js";
import { Chart } from "../parts/chart.js";
import { Orbit } from "../parts/orbit.js";
import { Facts, Failure, Table } from "../parts/pieces.js";

const SCORES = [
  ["calibrated_efficiency", "calibrated η"],
  ["calibrated_violation_rate", "at V"],
  ["efficiency", "as it is η"],
  ["violation_rate", "V"],
];

function scoresTable(scores) {
  const rows = Object.entries(scores).map(([id, score]) => ({ id, ...score }));
  const columns = [
    { name: "rule", of: (row) => row.id },
    ...SCORES.map(([key, name]) => ({ name, number: true, of: (row) => (key.endsWith("rate") ? percent(row[key]) : number(row[key])) })),
  ];
  return html`<${Table} caption="Scores on held-out systems" columns=${columns} rows=${rows} />
    <p class="quiet">η: the fewest steps with which the energy error stays below the threshold (the oracle's, dt*), over the steps taken in the same time. V: the share of steps that violate the threshold.
      Calibrated: after one factor on all steps that brings V to at most 0.1 %; compare by this one. As it is: without; there η is above what it is worth where V is large.</p>`;
}

/** A simulation's orbit and energy, of its first system. */
export function Way({ artifact }) {
  const found = useLoaded((signal) => get(`/v1/artifacts/${artifact.id}/content`, {}, { signal }), [artifact.id]);
  const way = found.data;
  if (!way) return html`<${Failure} error=${found.error} />`;
  const which = way.systems > 1 ? `the first of ${way.systems} systems` : "the system";
  const shown = way.position[0].length < way.bodies ? `the first ${way.position[0].length} of ${way.bodies} bodies; ` : "";
  const note = `${shown}${way.time.length} of ${way.states} states`;
  return html`<h3>The way of ${which}</h3>
    ${way.systems > 1 && html`<p class="quiet">The figures above are of all ${way.systems} systems: errors are the largest of any, the time is that of the longest run.</p>`}<div class="charts">
    <${Orbit} label=${`${way.rule}, ${which}: ${note}`} position=${way.position} dt=${way.dt} time=${way.time} error=${way.energy_error} />
    <div><${Chart} name="|ΔE/E| since the start" xLabel="time" logY=${true} series=${[{ label: "|ΔE/E|", x: way.time, y: way.energy_error }]} note=${note} />
    <${Chart} name="dt" xLabel="time" logY=${true} series=${[{ label: "dt", x: way.time, y: way.dt }]} note=${note} /></div>
  </div>`;
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
