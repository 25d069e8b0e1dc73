// How good a stepper is, looked at closely: over eccentricity, over dt/dt*, and where it fails.
import { get } from "../api.js";
import { number, title } from "../format.js";
import { html } from "../html.js";
import { useLoaded } from "../load.js";
import { Chart } from "../parts/chart.js";
import { Orbit } from "../parts/orbit.js";
import { Failure, Table } from "../parts/pieces.js";
import { change, link, useRoute } from "../route.js";

export const FILE = "held_out.json";
const MOST_HARD_ROWS = 2048; // of a config

/** The newest file of a name among a job's artifacts. */
export const newest = (artifacts, name) => artifacts.filter((each) => each.name === name).at(-1);

const violating = (orbit) => orbit.energy_error.flatMap((error, k) => (error < orbit.threshold ? [] : [k]));

/** The states that violate as a config's hard_systems, the worst first, as many as it takes. */
export function hardSystems(look) {
  const found = look.orbits.flatMap((orbit) => violating(orbit).map((k) => ({ excess: orbit.energy_error[k] / orbit.threshold, rows: orbit.mass.map((mass, n) => [mass, ...orbit.position[k][n], ...orbit.velocity[k][n]]) })));
  found.sort((a, b) => b.excess - a.excess);
  return found.slice(0, Math.floor(MOST_HARD_ROWS / (found[0]?.rows.length ?? 1))).map((each) => each.rows);
}

export function HeldOut({ job, artifact, session }) {
  const { query } = useRoute();
  const look = useLoaded((signal) => get(`/v1/artifacts/${artifact.id}/content`, {}, { signal }), [artifact.id]);
  const found = look.data;
  if (!found) return html`<${Failure} error=${look.error} />`;
  const middle = found.ratios.edges.slice(1).map((edge, n) => Math.log10(Math.sqrt(edge * found.ratios.edges[n])));
  const ratios = Object.entries(found.ratios.shares).map(([label, y]) => ({ label, x: middle, y }));
  const bins = found.by_eccentricity;
  const over = bins.length ? Object.keys(bins[0].efficiency).map((label) => ({ label, x: bins.map((bin) => (bin.from + bin.to) / 2), y: bins.map((bin) => bin.efficiency[label]) })) : [];
  const orbit = found.orbits.find((each) => String(each.system) === query.get("orbit"));
  const hard = found.orbits.length > 0;
  return html`<div class="charts">
      ${over.length > 0 && html`<${Chart} name="calibrated η over eccentricity" of=${title(job)} xLabel="eccentricity" series=${over} note="oracle steps over steps, in the middle of each bin" />`}
      <${Chart} name="share of states" of=${title(job)} xLabel="log₁₀(dt/dt*)" series=${ratios} note="how long steps are: the network as it is, the criteria calibrated; right of 0 a step is beyond the first crossing of the threshold" />
    </div>
    <h3>Where it fails</h3>
    <p>${found.violations} of ${found.states} steps of the network as it is violate, in ${found.systems_with_violations} of ${found.systems} systems; V above is of the half of them that nothing was calibrated on.
      ${hard && job.kind !== "simulate" && session.role !== "viewer" && html` <a class="button" href=${link("submit", "", { from: job.id, hard: artifact.id })}>train on these</a>`}</p>
    ${orbit && html`<${Failing} orbit=${orbit} />`}
    ${hard && html`<${Table} caption="Systems with violations, the worst first" rows=${found.orbits.map((each) => ({ ...each, id: each.system }))} columns=${[
      { name: "system", number: true, of: (row) => html`<a href=${link("job", job.id, { orbit: row.system })} onClick=${(event) => {
        event.preventDefault();
        change({ orbit: row.system });
      }}>${row.system}</a>` },
      ...(found.orbits[0].eccentricity === undefined ? [] : [{ name: "e", number: true, of: (row) => number(row.eccentricity) }]),
      { name: "violations", number: true, of: (row) => violating(row).length },
      { name: "threshold of |ΔE/E|", number: true, of: (row) => number(row.threshold, 3) },
      { name: "largest, over it", number: true, of: (row) => excess(Math.max(...row.energy_error) / row.threshold) },
      { name: "largest dt/dt*", number: true, of: (row) => excess(Math.max(...row.dt.map((dt, k) => dt / row.dt_star[k]))) },
    ]} />`}
    ${found.systems_with_violations > found.orbits.length && html`<p class="quiet">the worst ${found.orbits.length} of ${found.systems_with_violations}</p>`}`;
}

/** A ratio that may be hardly more than one. */
const excess = (ratio) => `${ratio.toFixed(ratio < 10 ? 4 : 0)}×`;

function Failing({ orbit }) {
  const time = orbit.interval.reduce((sums, each) => [...sums, sums.at(-1) + each], [0]).slice(0, -1);
  const marked = violating(orbit);
  return html`<div class="charts">
    <${Orbit} label=${`system ${orbit.system}`} position=${orbit.position} dt=${orbit.dt} time=${time} error=${orbit.energy_error} marked=${marked} first=${marked[0] ?? 0} />
    <${Chart} name=${`dt and dt* along system ${orbit.system}`} xLabel="time" series=${[{ label: "dt*", x: time, y: orbit.dt_star }, { label: "dt", x: time, y: orbit.dt }]}
      marks=${marked.map((k) => ({ x: time[k], label: "" }))} note="ticks: where a step violates" />
  </div>`;
}
