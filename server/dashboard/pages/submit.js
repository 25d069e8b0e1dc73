// A new job: a form drawn from the Config's schema, looked at by the server while one types.
import { get, post } from "../api.js";
import { bytes, title, value } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { useLoaded, useQuietly } from "../load.js";
import { defaultsOf, useSchema } from "../parts/config.js";
import { Field } from "../parts/field.js";
import { OwnSystem } from "../parts/own_system.js";
import { Button, Facts, Failure, Select } from "../parts/pieces.js";
import { go } from "../route.js";
import { hardSystems } from "./held_out.js";

const KINDS = { train: "train a stepper", simulate: "simulate a system", evaluate: "evaluate a stepper beside the criteria" };
const LOOK_MS = 400;
const drafts = new Map(); // what was typed, by what it began with: going back finds it again

export default function Submit({ route }) {
  const from = route.query.get("from");
  const hard = route.query.get("hard"); // a file of held-out states: those that fail are trained on
  const schema = useSchema();
  const old = useLoaded((signal) => (from ? begin(from, hard, signal) : null), [from, hard]);
  if (!schema || (from && !old.data)) return old.error ? html`<h1>Submit</h1><${Failure} error=${old.error} />` : html`<p class="loading">Loading …</p>`;
  return html`<${Form} key=${route.query.toString()} schema=${schema} old=${old.data} route=${route} />`;
}

/** The job to begin with: a training; with those states of `hard` on which its stepper fails. */
async function begin(from, hard, signal) {
  const job = await get(`/v1/jobs/${from}`, {}, { signal });
  if (!hard) return job;
  const look = await get(`/v1/artifacts/${hard}/content`, {}, { signal });
  const trained = job.kind === "train" ? job : await training(job, signal);
  const config = { ...trained.config, hard_systems: hardSystems(look) };
  if (config.lifetime === null) Object.assign(config, { resample_each_epoch: true, reset_particle_each_epoch: true });
  return { ...trained, config, id: `${from} ${hard}`, name: `${trained.name || trained.id}, with what failed`.slice(0, 200) };
}

/** The training that made the stepper which a job scored; where it is no job's, its config. */
async function training(job, signal) {
  try {
    const stepper = await get(`/v1/checkpoints/${job.from_checkpoint}`, {}, { signal });
    return await get(`/v1/jobs/${stepper.job_id}`, {}, { signal });
  } catch (error) {
    if (error.status !== 404) throw error;
    return job;
  }
}

function Form({ schema, old, route }) {
  const defaults = defaultsOf(schema);
  const drafted = `${old?.id ?? ""} ${route.query.get("kind") ?? ""} ${route.query.get("stepper") ?? ""}`;
  const draft = drafts.get(drafted);
  const [config, setConfig] = useState(draft?.config ?? (old ? changed(old.config, defaults) : {}));
  const [about, setAbout] = useState(draft?.about ?? { name: old?.name ?? "", priority: old?.priority ?? 0, labels: labelsOf(old), max_runtime_s: old?.max_runtime_s ?? "", webhook: old?.webhook?.includes("…") ? "" : (old?.webhook ?? ""), max_attempts: old?.max_attempts ?? "", ...asked(old?.requires), kind: route.query.get("kind") || "train", stepper: route.query.get("stepper") || "" });
  const [sought, setSought] = useState("");
  const [unread, setUnread] = useState({}); // fields whose text is no value yet, and why
  const [seen, setSeen] = useState({ report: null, error: null });
  const look = useQuietly(async (body) => {
    try {
      setSeen({ report: await post("/v1/jobs/validate", body), error: null });
    } catch (error) {
      setSeen({ report: null, error });
    }
  }, LOOK_MS, 2000);
  const body = submission(config, about);
  const text = JSON.stringify(body);
  useEffect(() => {
    drafts.set(drafted, { config, about });
    look(body);
  }, [text]);

  const put = (name, given, problem) => {
    setUnread((before) => ({ ...before, [name]: problem }));
    if (problem) return;
    setConfig((before) => changed({ ...before, [name]: given }, defaults));
  };
  const problems = Object.fromEntries((seen.error?.fields ?? []).map((field) => [field.pointer.split("/")[2] ?? "", field.detail]));
  const unreadNow = Object.fromEntries(Object.entries(unread).filter(([, problem]) => problem));
  const noLabel = `${about.labels}\n${about.needs}`.split("\n").find((line) => line.trim() && !/^[A-Za-z0-9._:-]+=/.test(line));
  const wrong = Object.keys(unreadNow).length > 0 || noLabel !== undefined || seen.error !== null;
  const submit = async () => go("job", (await post("/v1/jobs", body)).id);
  return html`<h1>${old ? `Change and submit again: ${old.name || old.id}` : "Submit a job"}</h1>
    <div class="two">
      <div>
        <fieldset><legend>Job</legend><div class="form">
          <${Select} label="Kind" value=${about.kind} choices=${Object.entries(KINDS)} take=${(kind) => setAbout({ ...about, kind })} />
          ${about.kind !== "train" && html`<${Stepper} kind=${about.kind} chosen=${about.stepper} take=${(stepper) => setAbout({ ...about, stepper })} />`}
          <label>Name <input maxlength="200" value=${about.name} onInput=${(e) => setAbout({ ...about, name: e.target.value })} /></label>
          <label>Labels, KEY=TEXT, one a line <textarea rows="2" placeholder="paper=draft" value=${about.labels} onInput=${(e) => setAbout({ ...about, labels: e.target.value })}></textarea></label>
          <label>Priority, −100 … 100 <input type="number" min="-100" max="100" value=${about.priority} onInput=${(e) => setAbout({ ...about, priority: Number(e.target.value) })} /></label>
          <label>Stop it after [s] <input type="number" min="1" value=${about.max_runtime_s} onInput=${(e) => setAbout({ ...about, max_runtime_s: e.target.value })} /></label>
          <label>Attempts, where workers are lost <input type="number" min="1" max="100" value=${about.max_attempts} onInput=${(e) => setAbout({ ...about, max_attempts: e.target.value })} /></label>
          <label>Only on a GPU with at least [GiB]; 0: any <input type="number" min="0" step="any" value=${about.gpu_gib} onInput=${(e) => setAbout({ ...about, gpu_gib: e.target.value })} /></label>
          <label>Only on workers with these labels, KEY=TEXT, one a line <textarea rows="1" value=${about.needs} onInput=${(e) => setAbout({ ...about, needs: e.target.value })}></textarea></label>
          <label>Tell this address when it is over <input placeholder="slack+https:…, mailto:ada@example.org" value=${about.webhook} onInput=${(e) => setAbout({ ...about, webhook: e.target.value })} /></label>
        </div></fieldset>
        <${Presets} choose=${(fields) => setConfig(changed(fields, defaults))} begin=${(fields) => setConfig((before) => changed({ ...without(before, schema["x-of-systems"]), ...fields }, defaults))} />
        <label>Find a field <input type="search" value=${sought} onInput=${(e) => setSought(e.target.value)} /></label>
        ${Object.entries(schema["x-sections"]).map(([section, names]) => html`<${Section} key=${section} name=${section} fields=${names.filter((name) => matches(name, schema.properties[name], sought))}
          open=${sought !== "" || names.some((name) => name in config || problems[name])} schema=${schema} config=${config} defaults=${defaults} problems=${{ ...problems, ...unreadNow }} put=${put} />`)}
      </div>
      <aside class="side" aria-label="What would run">
        <h2>What would run</h2>
        <${Failure} error=${seen.error} />
        ${seen.report && html`<${Report} report=${seen.report} />`}
        <h2>Changed from the defaults</h2>
        ${Object.keys(config).length === 0 && html`<p class="quiet">nothing</p>`}
        <${Facts} of=${Object.fromEntries(Object.entries(config).map(([name, each]) => [name, html`<code>${shortly(value(each))}</code> <button aria-label=${`default of ${name}`} onClick=${() => put(name, defaults[name])}>✕</button>`]))} />
        ${noLabel !== undefined && html`<p class="bad-text" role="alert">label ${noLabel}: use KEY=TEXT</p>`}
        ${Object.entries(unreadNow).map(([name, problem]) => html`<p class="bad-text">${name}: ${problem}</p>`)}
        <p><${Button} class="main" disabled=${wrong} does=${submit}>Submit</${Button}></p>
        <details><summary>As JSON</summary><pre tabindex="0">${JSON.stringify(config, null, 2)}</pre></details>
      </aside>
    </div>`;
}

function matches(name, field, sought) {
  const words = sought.toLowerCase();
  return name.toLowerCase().includes(words) || (field.description ?? "").toLowerCase().includes(words);
}

const changed = (config, defaults) =>
  Object.fromEntries(Object.entries(config).filter(([name, each]) => JSON.stringify(each) !== JSON.stringify(defaults[name])));

/** Another system begins without what was said of the one before. */
const without = (config, names) => Object.fromEntries(Object.entries(config).filter(([name]) => !names.includes(name)));

const shortly = (text) => (text.length > 200 ? `${text.slice(0, 200)} … (${text.length} characters)` : text);

const labelsOf = (job) => Object.entries(job?.metadata ?? {}).map(([key, text]) => `${key}=${text}`).join("\n");

/** Requirements of workers, as the form has them. */
function asked(requires) {
  const gib = requires?.gpu_memory ? requires.gpu_memory / 2 ** 30 : requires?.gpus ? 0 : "";
  return { gpu_gib: gib, needs: labelsOf({ metadata: requires?.labels }) };
}

function read(lines) {
  const pairs = lines.split("\n").filter((line) => line.trim()).map((line) => line.split("="));
  return pairs.length ? Object.fromEntries(pairs.map(([key, ...rest]) => [key, rest.join("=")])) : undefined;
}

function requirements(about) {
  const labels = read(about.needs);
  const onGpu = about.gpu_gib !== "";
  if (!labels && !onGpu) return undefined;
  return { ...(onGpu ? { gpus: 1, gpu_memory: Math.round(Number(about.gpu_gib) * 2 ** 30) } : {}), ...(labels ? { labels } : {}) };
}

function submission(config, about) {
  return {
    config,
    ...(about.kind === "train" ? {} : { kind: about.kind }),
    ...(about.kind !== "train" && about.stepper ? { stepper: { job: about.stepper, epoch: "best" } } : {}),
    ...(about.name ? { name: about.name } : {}),
    ...(about.priority ? { priority: about.priority } : {}),
    ...(Number(about.max_attempts) ? { max_attempts: Number(about.max_attempts) } : {}),
    ...(about.webhook ? { webhook: about.webhook } : {}),
    ...(Number(about.max_runtime_s) ? { max_runtime_s: Number(about.max_runtime_s) } : {}),
    metadata: read(about.labels),
    requires: requirements(about),
  };
}

/** Whose best checkpoint steps; what is not changed below is as in its training. */
function Stepper({ kind, chosen, take }) {
  const trained = useLoaded(() => get("/v1/jobs", { kind: "train", status: "succeeded", limit: 100 }), []);
  const choices = (trained.data?.data ?? []).map((job) => [job.id, title(job)]);
  if (chosen && !choices.some(([id]) => id === chosen)) choices.push([chosen, chosen]);
  return html`<${Select} label="Stepper; what is not changed below is as in its training" value=${chosen} none=${kind === "evaluate" ? "choose one" : "none: a classical rule (integrator_mode)"} choices=${choices} take=${take} />`;
}

function Section({ name, fields, open, schema, config, defaults, problems, put }) {
  if (!fields.length) return null;
  return html`<details open=${open}><summary><b>${name}</b> <span class="quiet">${fields.length} fields</span></summary>
    <fieldset><legend>${name}</legend><div class="form">${fields.map(
      (field) => html`<${Field} key=${field} name=${field} field=${schema.properties[field]} given=${field in config ? config[field] : defaults[field]} isChanged=${field in config} problem=${problems[field]} put=${put} />`,
    )}</div></fieldset></details>`;
}

function Presets({ choose, begin }) {
  const [text, setText] = useState("");
  const [error, setError] = useState(null);
  const presets = useLoaded(() => get("/v1/presets"), []);
  const read = () => {
    try {
      choose(JSON.parse(text));
      setError(null);
    } catch (failure) {
      setError(new Error(`That is not JSON: ${failure.message}`));
    }
  };
  return html`<div class="row">
    <${Select} label="Begin with" value="" none="a preset …" choices=${(presets.data?.data ?? []).map((each) => each.id)} take=${(id) => {
      const found = presets.data.data.find((each) => each.id === id);
      if (found) choose(found.config);
    }} />
    <details><summary>or paste a config</summary>
      <label>Config as JSON <textarea rows="6" value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>
      <p><button onClick=${read}>Take it</button></p><${Failure} error=${error} />
    </details>
    <details><summary>or your own system</summary><${OwnSystem} take=${begin} /></details></div>`;
}

function Report({ report }) {
  return html`<${Facts} of=${{
      parameters: report.parameter_count.toLocaleString("en"),
      memory: bytes(report.estimated_memory_bytes),
      "of a GPU": report.estimated_gpu_memory_bytes ? bytes(report.estimated_gpu_memory_bytes) : null,
      checkpoints: bytes(report.estimated_checkpoint_bytes),
    }} />
    ${report.warnings.map((text) => html`<div class="note warn">${text}</div>`)}
    ${report.waits_for && html`<div class="note warn"><b>It would wait for</b> ${report.waits_for}</div>`}`;
}
