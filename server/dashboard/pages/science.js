// What simulations cost and keep: energy error against forces, each a click away from its orbit.
import { all } from "../api.js";
import { number, percent, title, value } from "../format.js";
import { html } from "../html.js";
import { useLoaded } from "../load.js";
import { Chart } from "../parts/chart.js";
import { Failure, Table } from "../parts/pieces.js";
import { change, go, link } from "../route.js";

const COST = "result/force_evaluations";
const ERROR = "result/max_energy_error";
const RULE = "config/integrator_mode";
const SYSTEM = "config/initial_conditions";
const SCORES = ["result/stepper/calibrated_efficiency", "result/stepper/violation_rate", "result/free_fall/calibrated_efficiency"];
const MOST = 500;

export default function Science({ route }) {
  const filter = route.query.getAll("filter");
  const name = route.query.get("name") || "";
  const asked = { status: "succeeded", name: name && !name.includes("*") ? `*${name}*` : name, filter };
  const runs = useLoaded(() => all("/v1/jobs", { ...asked, kind: "simulate", columns: [COST, ERROR, RULE, SYSTEM, "result/final_time"] }, MOST), [JSON.stringify(asked)]);
  const steppers = useLoaded(() => all("/v1/jobs", { ...asked, kind: "train", columns: [SYSTEM, ...SCORES] }, MOST), [JSON.stringify(asked)]);
  const finished = (runs.data ?? []).filter((job) => job.values[COST] > 0 && job.values[ERROR] !== null);
  const rules = [...new Set(finished.map((job) => job.values[RULE]))];
  const series = rules.map((rule) => {
    const own = finished.filter((job) => job.values[RULE] === rule).sort((a, b) => a.values[COST] - b.values[COST]);
    return { label: rule, x: own.map((job) => job.values[COST]), y: own.map((job) => job.values[ERROR]) };
  });
  return html`<h1>Science</h1>
    <form class="row" onSubmit=${(event) => {
      event.preventDefault();
      const given = new FormData(event.target);
      change({ name: given.get("name"), filter: given.get("filter") });
    }}>
      <label>Name <input name="name" type="search" value=${name} placeholder="part of a name" /></label>
      <label>Filter <input name="filter" value=${filter[0] ?? ""} placeholder="config/initial_conditions=kepler" /></label>
      <button>Show</button>
    </form>
    <${Failure} error=${runs.error || steppers.error} />
    <h2>Energy error against cost</h2>
    ${runs.data && !finished.length && html`<p class="quiet">no simulation has finished yet: a trained job's page has “simulate”</p>`}
    ${finished.length > 0 && html`<${Chart} name="largest |ΔE/E|" xLabel="force evaluations" points=${true} logX=${true} logY=${true} series=${series} note="one point a simulation; only those of one system over one time are comparable: choose them above" onPick=${(rule, x) => {
      const job = finished.find((each) => each.values[RULE] === rule && each.values[COST] === x);
      if (job) go("job", job.id);
    }} />
    <${Table} caption="Simulations" rows=${finished} columns=${[
      { name: "simulation", of: (job) => html`<a href=${link("job", job.id)}>${title(job)}</a>` },
      { name: "system", of: (job) => job.values[SYSTEM] },
      { name: "rule", of: (job) => job.values[RULE] },
      { name: "time", number: true, of: (job) => value(job.values["result/final_time"]) },
      { name: "force evaluations", number: true, of: (job) => number(job.values[COST]) },
      { name: "largest |ΔE/E|", number: true, of: (job) => number(job.values[ERROR], 3) },
    ]} />`}
    <h2>Steppers</h2>
    <${Table} caption="Steppers" empty="none is trained yet" rows=${steppers.data?.filter((job) => job.values[SCORES[0]] !== null)} columns=${[
      { name: "training", of: (job) => html`<a href=${link("job", job.id)}>${title(job)}</a>` },
      { name: "population", of: (job) => job.values[SYSTEM] },
      { name: "calibrated η", number: true, of: (job) => number(job.values[SCORES[0]]) },
      { name: "V as it is", number: true, of: (job) => percent(job.values[SCORES[1]]) },
      { name: "η of free fall", number: true, of: (job) => number(job.values[SCORES[2]]) },
    ]} />`;
}
