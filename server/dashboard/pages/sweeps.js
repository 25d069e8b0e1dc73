// Searches: how far they are, their trials, and which fields matter.
import { all, get, post } from "../api.js";
import { instant, number, value } from "../format.js";
import { html } from "../html.js";
import { useLive } from "../live.js";
import { useLoaded, useQuietly } from "../load.js";
import { Parallel } from "../parts/parallel.js";
import { Button, Facts, Failure, Status, Table } from "../parts/pieces.js";
import { link } from "../route.js";
import { NewSweep } from "./new_sweep.js";

export default function Sweeps({ route, session }) {
  return route.id ? html`<${Sweep} id=${route.id} session=${session} />` : html`<${List} session=${session} />`;
}

const count = (sweep) => Object.values(sweep.trials).reduce((sum, each) => sum + each, 0) - (sweep.trials.running ?? 0);

function List({ session }) {
  const sweeps = useLoaded((signal) => get("/v1/sweeps", { limit: 100 }, { signal }), []);
  const again = useQuietly(sweeps.again, 2000, 5000);
  useLive((kind) => kind === "jobs" && again(), []);
  return html`<h1>Sweeps</h1><${Failure} error=${sweeps.error} />
    ${session.role !== "viewer" && html`<${NewSweep} />`}
    <${Table} caption="Sweeps" rows=${sweeps.data?.data} empty="no sweep yet" columns=${[
      { name: "sweep", of: (sweep) => html`<a href=${link("sweeps", sweep.id)}>${sweep.name || sweep.id}</a>` },
      { name: "status", of: (sweep) => html`<${Status} status=${sweep.status} />` },
      { name: "trials", number: true, of: (sweep) => `${count(sweep)}/${sweep.n_trials}` },
      { name: "objective", of: (sweep) => `${sweep.direction} ${sweep.objective}` },
      { name: "created", of: (sweep) => instant(sweep.created_at) },
    ]} />`;
}

function Sweep({ id, session }) {
  const sweep = useLoaded((signal) => get(`/v1/sweeps/${id}`, {}, { signal }), [id]);
  const trials = useLoaded(() => all(`/v1/sweeps/${id}/trials`), [id]);
  const matters = useLoaded((signal) => get(`/v1/sweeps/${id}/importance`, {}, { signal }), [id]);
  const again = useQuietly(() => {
    sweep.again();
    trials.again();
  }, 1000, 3000);
  useLive((kind) => kind === "jobs" && again(), []);
  const seen = sweep.data;
  if (!seen) return sweep.error ? html`<h1>Sweep</h1><${Failure} error=${sweep.error} />` : html`<p class="loading">Loading …</p>`;
  const rows = trials.data ?? [];
  const fields = Object.keys(seen.request.space);
  const better = seen.direction === "maximize" ? (a, b) => b.value - a.value : (a, b) => a.value - b.value;
  const ranked = [...rows].sort((a, b) => (a.value === null) - (b.value === null) || better(a, b));
  return html`<h1>${seen.name || seen.id}</h1>
    <div class="row centre"><${Status} status=${seen.status} /> <progress max=${seen.n_trials} value=${count(seen)} aria-label="trials done"></progress> ${count(seen)}/${seen.n_trials}
      ${seen.status === "running" && session.role !== "viewer" && html`<${Button} sure="Cancel this sweep and its jobs?" does=${async () => {
        await post(`/v1/sweeps/${id}/cancel`);
        again();
      }}>cancel</${Button}>`}</div>
    ${seen.failure && html`<div class="note bad" role="alert">${seen.failure}</div>`}
    <${Facts} of=${{
      objective: `${seen.direction} ${seen.objective}`,
      sampler: seen.request.sampler,
      best: seen.best && html`${number(seen.best.value, 6)} with ${Object.entries(seen.best.params).map(([name, each]) => `${name} = ${value(each)}`).join(", ")}`,
      "what matters": Object.entries(matters.data?.data ?? {}).map(([name, share]) => `${name} ${(100 * share).toFixed(0)} %`).join(", "),
    }} />
    <h2>Trials by their fields</h2>
    <${Parallel} axes=${[...fields, seen.objective]} rows=${rows.filter((trial) => trial.value !== null).map((trial) => ({ ...trial.params, [seen.objective]: trial.value }))} upIsBetter=${seen.direction === "maximize"}
      logs=${fields.filter((name) => seen.request.space[name].log)} />
    <h2>Trials, the best first</h2>
    <${Table} caption="Trials" rows=${ranked} columns=${[
      { name: "trial", number: true, of: (trial) => trial.id },
      { name: "job", of: (trial) => (trial.job_id ? html`<a href=${link("job", trial.job_id)}>…${trial.job_id.slice(-8)}</a>` : "–") },
      { name: "state", of: (trial) => trial.state },
      { name: "value", number: true, of: (trial) => number(trial.value, 6) },
      ...fields.map((name) => ({ name, of: (trial) => value(trial.params[name]) })),
    ]} />`;
}
