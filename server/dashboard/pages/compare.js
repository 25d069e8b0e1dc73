// Runs side by side: their curves in one figure, what they end with, and only what differs.
import { all, get } from "../api.js";
import { number, percent, title, value } from "../format.js";
import { html } from "../html.js";
import { useLive } from "../live.js";
import { useLoaded, useQuietly } from "../load.js";
import { Chart, COLOURS, colourOf, dashOf } from "../parts/chart.js";
import { ConfigTable, defaultsOf, differing, useSchema } from "../parts/config.js";
import { Failure, Select, Status, Table } from "../parts/pieces.js";
import { marksOf } from "../parts/marks.js";
import { change, go, link } from "../route.js";

const DEFAULT_KEY = "part2/efficiency";
const MOST_EPOCHS = 5000;

export default function Compare({ route }) {
  const ids = [...new Set(route.query.getAll("id"))];
  const key = route.query.get("metric") || DEFAULT_KEY;
  const by = route.query.get("by") || "";
  const paints = route.query.getAll("paint");
  const schema = useSchema();
  const names = useLoaded(() => get("/v1/schemas/columns"), []);
  const jobs = useLoaded((signal) => Promise.all(ids.map((id) => get(`/v1/jobs/${id}`, {}, { signal }).catch(missing))), [ids.join()]);
  const known = (jobs.data ?? []).filter(Boolean);
  const events = useLoaded(() => Promise.all(ids.map((id) => all(`/v1/jobs/${id}/events`).catch(() => []))), [ids.join()]);
  const there = known.map((job) => job.id);
  const most = Math.min(MOST_EPOCHS, Math.floor(300000 / Math.max(1, ids.length)));
  const series = useLoaded((signal) => (there.length ? get("/v1/compare", { ids: there, keys: key, limit: most }, { signal }) : null), [there.join(), key]);
  const again = useQuietly(() => {
    jobs.again();
    series.again();
  }, 1000, 3000);
  useLive((kind, told) => {
    if (kind === "jobs" && (told.all || told.data.some((job) => ids.includes(job.id)))) again();
  }, [ids.join()]);
  if (!ids.length) return html`<h1>Compare</h1><${Chooser} ids=${ids} /><p class="quiet">Choose jobs in the <a href="#/jobs">list</a>, or here.</p>`;
  const fields = schema && known.length ? differing(known.map((job) => job.config), defaultsOf(schema)) : [];
  const looks = looksOf(known, route.query);
  const lines = by ? grouped(known, series.data, key, by) : known.map((job, n) => ({ label: labelOf(job, known), ...points(job, series.data, key), ...looks[n] }));
  return html`<h1>Compare</h1>
    <${Failure} error=${jobs.error || series.error} />
    ${jobs.data && known.length < ids.length && html`<div class="note warn">${ids.length - known.length} of these jobs are not there any more, or not yours to see.</div>`}
    <div class="row">
      <${Select} label="Metric" value=${key} choices=${names.data?.metrics ?? [key]} take=${(metric) => change({ metric })} />
      <${Select} label="Group by" value=${by} none="each alone" choices=${fields} take=${(field) => change({ by: field })} />
      ${!by && html`<${Select} label="Colour by" value=${route.query.get("colour") || ""} none="run" choices=${fields} take=${(colour) => change({ colour })} />
        <${Select} label="Stroke by" value=${route.query.get("stroke") || ""} none="run" choices=${fields} take=${(stroke) => change({ stroke })} />`}
      <${Chooser} ids=${ids} />
    </div>
    <${Chart} name=${key} series=${lines} marks=${(events.data ?? []).flatMap((each) => marksOf(each, { checkpoints: false }))} onPick=${(label) => {
      const job = known.find((each) => labelOf(each, known) === label);
      if (job) go("job", job.id);
    }} note=${by ? "the mean of each group and one standard deviation, as far as all of its runs go" : "click a line to go to its job"} />
    <h2>Runs</h2>
    <${Table} caption="Runs" rows=${known} columns=${[
      { name: "", of: (job) => html`<button aria-label=${`take ${title(job)} out`} onClick=${() => change({ id: ids.filter((id) => id !== job.id) })}>✕</button>` },
      { name: "job", of: (job) => html`<a href=${link("job", job.id)}>${title(job)}</a>` },
      ...(by ? [] : [{ name: "colour", of: (job) => html`<input type="color" aria-label=${`colour of ${title(job)}`} value=${looks[known.indexOf(job)].colour} onChange=${(event) => change({ paint: [...others(paints, job.id), `${job.id}.${event.target.value.slice(1)}`] })} />` }]),
      { name: "status", of: (job) => html`<${Status} status=${job.status} />` },
      ...["last", "best", "min", "max"].map((over) => ({ name: over, number: true, of: (job) => number(summary(series.data?.data[job.id], key, over, names.data?.more_is_better ?? [])) })),
      ...(known.some(heldOut) ? [
        { name: "held out: calibrated η", number: true, of: (job) => number(heldOut(job)?.calibrated_efficiency) },
        { name: "at V", number: true, of: (job) => percent(heldOut(job)?.calibrated_violation_rate) },
      ] : []),
    ]} />
    <h2>What differs</h2>
    <${ConfigTable} configs=${known.map((job) => job.config)} names=${known.map(title)} />`;
}

function Chooser({ ids }) {
  const recent = useLoaded(() => get("/v1/jobs", { limit: 100, kind: "train" }), []);
  const others = (recent.data?.data ?? []).filter((job) => !ids.includes(job.id));
  return html`<${Select} label="Add a job" value="" none="–" choices=${others.map((job) => [job.id, `${title(job)} (${job.status})`])}
    take=${(id) => id && change({ id: [...ids, id] })} />`;
}

/** A job that is gone leaves the others to be compared. */
function missing(error) {
  if (error.status === 404 || error.status === 422) return null;
  throw error;
}

/** The scores of a training's stepper on systems that it has not seen. */
const heldOut = (job) => job.result?.stepper;

const others = (paints, id) => paints.filter((paint) => !paint.startsWith(`${id}.`));

/** Colour and stroke of each job: its own, or one for all that agree in a field; what somebody chose before both. */
function looksOf(jobs, query) {
  const paints = query.getAll("paint");
  const place = (job, n, field) => {
    if (!field) return n;
    const texts = jobs.map((each) => JSON.stringify(each.config[field]));
    return [...new Set(texts)].indexOf(texts[n]);
  };
  const [colour, stroke] = [query.get("colour"), query.get("stroke")];
  return jobs.map((job, n) => ({
    colour: chosen(paints, job.id) ?? colourOf(place(job, n, colour)),
    dash: stroke ? dashOf(COLOURS.length * place(job, n, stroke)) : dashOf(colour ? 0 : n),
  }));
}

function chosen(paints, id) {
  const found = paints.find((paint) => paint.startsWith(`${id}.`))?.slice(id.length + 1);
  return /^[0-9a-f]{6}$/.test(found ?? "") ? `#${found}` : undefined;
}

const labelOf = (job, known) => (known.filter((each) => title(each) === title(job)).length > 1 ? `${title(job)} …${job.id.slice(-5)}` : title(job));

function points(job, found, key) {
  const rows = found?.data[job.id] ?? [];
  return { x: rows.map((row) => row.epoch), y: rows.map((row) => row[key]) };
}

/** Mean over the jobs of each group, and a band of one standard deviation. */
function grouped(jobs, found, key, by) {
  const groups = new Map();
  for (const job of jobs) {
    const name = `${by} = ${value(job.config[by])}`;
    groups.set(name, [...(groups.get(name) ?? []), job]);
  }
  return [...groups].map(([name, members]) => {
    const at = new Map();
    for (const job of members) {
      for (const row of found?.data[job.id] ?? []) {
        if (row[key] !== null) at.set(row.epoch, [...(at.get(row.epoch) ?? []), row[key]]);
      }
    }
    const x = [...at.keys()].filter((epoch) => at.get(epoch).length === members.length).sort((a, b) => a - b);
    const y = x.map((epoch) => mean(at.get(epoch)));
    const s = x.map((epoch, n) => Math.sqrt(mean(at.get(epoch).map((each) => (each - y[n]) ** 2))));
    return { label: `${name} (${members.length})`, x, y, band: [y.map((each, n) => each - s[n]), y.map((each, n) => each + s[n])] };
  });
}

const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;

function summary(rows, key, over, moreIsBetter) {
  const values = (rows ?? []).map((row) => row[key] ?? null).filter((each) => each !== null);
  if (!values.length) return null;
  if (over === "last") return rows.at(-1)[key];
  const most = over === "max" || (over === "best" && moreIsBetter.includes(key));
  return values.reduce((a, b) => (most ? Math.max(a, b) : Math.min(a, b)));
}
