// One job, live: how far it is, what it does, what became of it, and what can be done.
import { all, get, patch, post, remove } from "../api.js";
import { bytes, duration, instant, number, runtime, title, value } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { useLive } from "../live.js";
import { useLoaded, useQuietly } from "../load.js";
import { ConfigTable } from "../parts/config.js";
import { Button, Facts, Failure, Progress, Status, Table } from "../parts/pieces.js";
import { go, link } from "../route.js";
import { FILE, HeldOut, newest } from "./held_out.js";
import { JobCharts } from "./job_charts.js";
import { Result, Way } from "./result.js";

const OVER = ["succeeded", "failed", "cancelled"];
const LOG_SHOWN = 200000; // characters
const SHOWN = 20; // rows, until all are asked for

export default function Job({ route, session }) {
  const id = route.id;
  const job = useLoaded((signal) => get(`/v1/jobs/${id}`, {}, { signal }), [id]);
  const events = useLoaded(() => all(`/v1/jobs/${id}/events`), [id]);
  const attempts = useLoaded(() => all(`/v1/jobs/${id}/attempts`), [id]);
  const written = (events.data ?? []).filter((event) => event.type === "checkpoint").length;
  const over = OVER.includes(job.data?.status);
  const files = useLoaded(async () => [await all(`/v1/jobs/${id}/checkpoints`), await all(`/v1/jobs/${id}/artifacts`)], [id, written, over]);
  const begun = job.data?.from_checkpoint;
  const source = useLoaded((signal) => (begun ? get(`/v1/checkpoints/${begun}`, {}, { signal }) : null), [begun]);
  const [version, setVersion] = useState(0);
  const again = useQuietly(() => {
    job.again();
    events.again();
    attempts.again();
    setVersion((before) => before + 1);
  }, 300, 2000);
  useLive((kind, told) => {
    if (kind === "jobs" && (told.all || told.data.some((each) => each.id === id) || told.gone.includes(id))) again();
  }, [id]);
  useEffect(() => {
    if (job.data) document.title = `${title(job.data)}, ${job.data.status} – Orrery`;
  }, [job.data?.name, job.data?.status]);
  if (!job.data) return job.error ? html`<h1>Job</h1><${Failure} error=${job.error} />` : html`<p class="loading">Loading …</p>`;
  const seen = job.data;
  const [close, way] = [FILE, "orbit.json"].map((name) => newest(files.data?.[1] ?? [], name));
  return html`<h1>${title(seen)}</h1>
    <div class="row centre">
      <${Status} status=${seen.status} />
      <${Progress} job=${seen} />
      ${seen.phase && html`<span class="quiet">${seen.phase}</span>`}
      ${session.role !== "viewer" && html`<${Actions} job=${seen} done=${again} />`}
    </div>
    <${Failure} error=${job.error} />
    ${seen.failure && html`<div class="note bad" role="alert"><b>${seen.failure.code}</b>: ${seen.failure.detail}</div>`}
    ${seen.waits_for && html`<div class="note warn"><b>It waits for</b> ${seen.waits_for}${seen.queue_position > 0 && `; ${seen.queue_position} before it`}. <a href="#/queue">The queue</a></div>`}
    ${seen.status === "queued" && !seen.waits_for && html`<div class="note">It waits for its turn: ${seen.queue_position} before it. <a href="#/queue">The queue</a></div>`}
    ${seen.warnings.map((text) => html`<div class="note warn">${text}</div>`)}
    <${Facts} of=${facts(seen, source.data)} />
    <${Notes} key=${seen.id} job=${seen} mayWrite=${session.role !== "viewer"} done=${again} />
    ${seen.kind === "train" && html`<${JobCharts} job=${seen} events=${events.data ?? []} version=${version} />`}
    ${seen.result && html`<${Result} job=${seen} />`}
    ${close && html`<${HeldOut} job=${seen} artifact=${close} session=${session} />`}
    ${way && html`<${Way} artifact=${way} />`}
    <${Files} files=${files.data} job=${seen} />
    <h2>Attempts</h2>
    <${Table} caption="Attempts" columns=${ATTEMPTS} rows=${attempts.data} />
    <h2>Timeline</h2>
    <${Timeline} events=${events.data ?? []} />
    <h2>Config</h2>
    <${ConfigTable} configs=${[seen.config]} names=${["value"]} />
    <h2>Log</h2>
    <${Log} id=${id} version=${version} />`;
}

/** What is asked of workers, in words. */
function only({ gpus, gpu_memory, labels }) {
  const gpu = gpu_memory ? `a GPU of ${bytes(gpu_memory)} or more` : gpus ? "a GPU" : null;
  return [gpu, ...Object.entries(labels ?? {}).map(([key, text]) => `${key}=${text}`)].filter(Boolean).join(", ") || null;
}

function facts(job, source) {
  return {
    id: html`<code>${job.id}</code>`,
    kind: job.kind,
    owner: job.owner,
    priority: job.priority || null,
    "only on": only(job.requires),
    created: instant(job.created_at),
    ran: duration(runtime(job)),
    "time left": job.eta_s === null ? null : duration(job.eta_s),
    labels: Object.entries(job.metadata).map(([key, text]) => html`<code>${key}=${text}</code> `),
    "retry of": job.retry_of && html`<a href=${link("job", job.retry_of)}>${job.retry_of}</a>`,
    [job.kind === "train" ? "begun at" : "stepper"]: source && html`<a href=${link("job", source.job_id)}>epoch ${source.epoch} of ${source.job_id}</a>`,
    "made by": job.parent && (job.parent.startsWith("job_") ? html`<a href=${link("job", job.parent)}>${job.parent}</a>` : html`<a href=${link("sweeps", job.parent)}>${job.parent}</a>`),
  };
}

const ATTEMPTS = [
  { name: "attempt", number: true, of: (each) => each.id },
  { name: "host", of: (each) => each.whereabouts?.host ?? "–" },
  { name: "on", of: (each) => each.whereabouts?.gpu ?? each.whereabouts?.device ?? "–" },
  { name: "seed", number: true, of: (each) => each.whereabouts?.seed ?? "–" },
  { name: "from epoch", number: true, of: (each) => each.first_epoch ?? "–" },
  { name: "began", of: (each) => instant(each.started_at) },
  { name: "ended", of: (each) => instant(each.ended_at) },
  { name: "how", of: (each) => [each.status, each.stop_reason].filter(Boolean).join(", ") || "–" },
  { name: "why", wrap: true, of: (each) => each.detail || "" },
  { name: "with", wrap: true, of: (each) => Object.entries(each.whereabouts?.versions ?? {}).map(([name, version]) => `${name} ${version}`).join(", ") },
];

function Actions({ job, done }) {
  const act = (name) => async () => {
    await post(`/v1/jobs/${job.id}/${name}`);
    done();
  };
  const moves = OVER.includes(job.status) ? [] : job.status === "paused" ? ["resume", "cancel"] : ["pause", "cancel"];
  const rename = async () => {
    const name = prompt("Name of the job", job.name || "");
    if (name !== null) await patch(`/v1/jobs/${job.id}`, { name });
    done();
  };
  return html`
    ${moves.map((name) => html`<${Button} does=${act(name)} sure=${name === "cancel" ? "Cancel this job?" : ""}>${name}</${Button}>`)}
    ${OVER.includes(job.status) && html`<${Button} does=${async () => go("job", (await post(`/v1/jobs/${job.id}/retry`)).id)}>retry</${Button}>`}
    <${Button} does=${rename}>rename</${Button}>
    ${job.kind === "train" && html`<a class="button" href=${link("submit", "", { from: job.id })}>duplicate and change</a>`}
    ${job.kind === "train" && job.status === "succeeded" && ["evaluate", "simulate"].map((kind) => html`<a class="button" href=${link("submit", "", { kind, stepper: job.id })}>${kind}</a>`)}
    ${OVER.includes(job.status) && html`<${Button} sure="Delete this job, with checkpoints and logs?" does=${async () => {
      await remove(`/v1/jobs/${job.id}`, { files: true });
      go("jobs");
    }}>delete</${Button}>`}`;
}

/** What was written down about it; what somebody types stays until it is kept. */
function Notes({ job, mayWrite, done }) {
  const [typed, setTyped] = useState(null);
  if (!mayWrite) return job.notes && html`<pre tabindex="0" aria-label="Notes">${job.notes}</pre>`;
  return html`<details class="more" open=${job.notes !== ""}><summary>Notes</summary>
    <textarea aria-label="Notes" rows="3" maxlength="10000" value=${typed ?? job.notes} onInput=${(event) => setTyped(event.target.value)}></textarea>
    ${typed !== null && typed !== job.notes && html`<${Button} does=${async () => {
      await patch(`/v1/jobs/${job.id}`, { notes: typed });
      setTyped(null);
      done();
    }}>keep</${Button}>`}</details>`;
}

function Files({ files, job }) {
  if (!files) return null;
  const [checkpoints, artifacts] = files;
  const best = checkpoints.filter((each) => each.efficiency !== null && (each.pass_rate ?? 0) >= 0.9).sort((a, b) => b.efficiency - a.efficiency)[0];
  const columns = [
    { name: "epoch", number: true, of: (each) => each.epoch },
    { name: "pass rate", number: true, of: (each) => number(each.pass_rate) },
    { name: "η", number: true, of: (each) => number(each.efficiency) },
    { name: "", of: (each) => (best && each.id === best.id ? "best" : "") },
    { name: "size", number: true, of: (each) => bytes(each.bytes) },
    { name: "file", of: (each) => html`<a href=${`v1/checkpoints/${each.id}/content`} download>${each.path.split("/").pop()}</a>` },
    { name: "written", of: (each) => instant(each.created_at) },
  ];
  const others = [
    { name: "file", of: (each) => html`<a href=${`v1/artifacts/${each.id}/content`} download>${each.name}</a>` },
    { name: "size", number: true, of: (each) => bytes(each.bytes) },
    { name: "written", of: (each) => instant(each.created_at) },
  ];
  return html`${(job.kind === "train" || checkpoints.length > 0) && html`<h2>Checkpoints</h2><${Folded} rows=${[...checkpoints].reverse()} draw=${(some) => html`<${Table} caption="Checkpoints" columns=${columns} rows=${some} />`} />`}
    ${artifacts.length > 0 && html`<h2>Files</h2><${Table} caption="Files" columns=${others} rows=${artifacts} />`}`;
}

function Timeline({ events }) {
  if (!events.length) return html`<p class="quiet">nothing yet</p>`;
  return html`<${Folded} rows=${[...events].reverse()} draw=${(some) => html`<ul class="plain timeline">${some.map((event) => html`<li key=${event.id}>
    <span class="quiet">${instant(event.at)}</span><b>${event.type}</b><span>${said(event.data)}</span></li>`)}</ul>`} />`;
}

/** What an event says, without what it does not. */
function said(data) {
  const given = Object.entries(data).filter(([, each]) => each !== null && each !== false && each !== "" && !(Array.isArray(each) && !each.length));
  return given.map(([name, each]) => `${name}: ${value(each)}`).join(", ");
}

/** The first of many rows; the others where they are asked for. */
function Folded({ rows, draw }) {
  const [every, setEvery] = useState(false);
  return html`${draw(every ? rows : rows.slice(0, SHOWN))}
    ${!every && rows.length > SHOWN && html`<p><button onClick=${() => setEvery(true)}>all ${rows.length}</button></p>`}`;
}

function Log({ id, version }) {
  const [text, setText] = useState("");
  const [follow, setFollow] = useState(true);
  const offset = useRef(0);
  const reader = useRef(new TextDecoder());
  const busy = useRef(false);
  const place = useRef();
  useEffect(() => {
    const read = async () => {
      if (busy.current) return;
      busy.current = true;
      try {
        for (;;) {
          const [part, headers] = await get(`/v1/jobs/${id}/logs`, { offset: offset.current }, { raw: true });
          offset.current += part.length;
          const more = reader.current.decode(part, { stream: true }); // a character may be cut in two
          if (more) setText((before) => (before + more).slice(-LOG_SHOWN));
          if (!part.length || offset.current >= Number(headers.get("X-Log-Bytes"))) break;
        }
      } catch {
        // It comes with the next change.
      } finally {
        busy.current = false;
      }
    };
    read();
  }, [id, version]);
  useEffect(() => {
    if (follow && place.current) place.current.scrollTop = place.current.scrollHeight;
  }, [text, follow]);
  return html`<div class="row centre">
      <label class="beside"><input type="checkbox" checked=${follow} onChange=${(event) => setFollow(event.target.checked)} /> follow</label>
      <a href=${`v1/jobs/${id}/logs`} target="_blank" rel="noopener">as text</a>
    </div>
    <pre ref=${place} tabindex="0" aria-label="Log">${text || "nothing was printed"}</pre>`;
}
