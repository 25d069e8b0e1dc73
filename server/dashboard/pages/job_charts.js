// A training's metrics over its epochs, with what happened to it.
import { get } from "../api.js";
import { title } from "../format.js";
import { html, useEffect } from "../html.js";
import { useLoaded } from "../load.js";
import { Chart } from "../parts/chart.js";
import { marksOf } from "../parts/marks.js";
import { Failure, Select } from "../parts/pieces.js";
import { change, read } from "../route.js";

const DEFAULT = ["part2/efficiency", "part2/final_pass_rate", "part2/max_rel_dE", "part2/iterations"];
const POINTS = 1000;

export function JobCharts({ job, events, version }) {
  const { query } = read();
  const keys = query.getAll("metric");
  const range = rangeOf(query.get("epochs"));
  const shown = keys.length ? keys : DEFAULT;
  const names = useLoaded(() => get("/v1/schemas/columns"), []);
  const metrics = (names.data?.metrics ?? DEFAULT).filter((name) => !shown.includes(name));
  return html`<h2>Metrics</h2>
    <div class="row centre">
      <${Select} label="Show also" value="" none="–" choices=${metrics} take=${(name) => name && change({ metric: [...shown, name] })} />
      ${range && html`<button onClick=${() => change({ epochs: null })}>all epochs</button>`}
      ${keys.length > 0 && html`<button onClick=${() => change({ metric: null })}>the usual ones</button>`}
    </div>
    <div class="charts">${shown.map((name) => html`<${MetricChart} key=${name} job=${job} name=${name} events=${events} version=${version} range=${range} />`)}</div>`;
}

/** `first-last`: the epochs that are looked at; null: all. */
function rangeOf(text) {
  const found = /^(\d{1,9})-(\d{1,9})$/.exec(text ?? "");
  return found && [Number(found[1]), Number(found[2])];
}

function MetricChart({ job, name, events, version, range }) {
  const query = { keys: name, max_points: POINTS, ...(range ? { after: range[0] - 1, until: range[1] } : {}) };
  const series = useLoaded((signal) => get(`/v1/jobs/${job.id}/metrics`, query, { signal }), [job.id, name, JSON.stringify(range)]);
  useEffect(() => {
    if (version) series.again();
  }, [version]);
  const rows = series.data?.data ?? [];
  const done = range ? range[1] - range[0] + 1 : job.progress.epochs_done;
  const note = !series.data ? "…" : rows.length === 0 ? "no epoch yet" : rows.length < done ? `${rows.length} of ${done} epochs: the least and the largest of each stretch; drag to look closer` : `${rows.length} ${rows.length === 1 ? "epoch" : "epochs"}`;
  const zoom = (ends) => change({ epochs: ends && ends.map((end) => Math.max(0, Math.round(end))).join("-") });
  const marks = marksOf(events);
  return html`<div>
    <${Failure} error=${series.error} />
    <${Chart} name=${name} of=${title(job)} series=${[{ label: name, x: rows.map((row) => row.epoch), y: rows.map((row) => row[name]) }]} marks=${marks}
      note=${note} onZoom=${zoom} />
  </div>`;
}
