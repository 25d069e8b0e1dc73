// Lists of jobs: found, sorted, shown with what one likes, and acted on together.
import { get, post } from "../api.js";
import { duration, instant, runtime, title, value } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { useColumns, useLive } from "../live.js";
import { useLoaded, useQuietly } from "../load.js";
import { Button, Failure, Progress, Select, Status } from "../parts/pieces.js";
import { ours, withQuery } from "../query.js";
import { change, link, read } from "../route.js";
import { Groups } from "./groups.js";

const STATUSES = ["queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"];
const DEFAULT_COLUMNS = ["part2/efficiency", "part2/final_pass_rate"];
const LIMIT = 50;
const MOST_COMPARED = 20;
const MOST_TOLD = 5;
const ACTIONS = ["pause", "resume", "cancel", "retry", "delete"];
const OWN = [
  { name: "name", sort: "name" },
  { name: "status", sort: "status" },
  { name: "progress", sort: "epochs_done" },
  { name: "owner", sort: "owner" },
  { name: "created", sort: "created_at" },
  { name: "ran", sort: "runtime_s" },
];

/** What the address says of the list, as the API wants it. */
function asked(query) {
  const name = query.get("name") || "";
  return {
    name: name && !name.includes("*") ? `*${name}*` : name,
    status: query.getAll("status"),
    filter: query.getAll("filter"),
    columns: query.has("columns") ? query.getAll("columns").filter((column) => column !== "none") : DEFAULT_COLUMNS,
    sort: query.get("sort"),
    after: query.get("after"),
  };
}

export function Jobs({ route, session }) {
  const wanted = asked(route.query);
  const key = route.query.toString();
  const list = useLoaded((signal) => get("/v1/jobs", { ...wanted, limit: LIMIT }, { signal }), [key]);
  const schema = useLoaded((signal) => get("/v1/schemas/columns", {}, { signal }), []);
  const [chosen, setChosen] = useState(new Set());
  useEffect(() => setChosen(new Set()), [key]); // what is not shown is not acted on
  const now = useQuietly(list.again, 100, 500);
  const soon = useQuietly(list.again, 2000, 10000);
  useColumns(wanted.columns);
  useLive((kind, told) => {
    if (kind !== "jobs") return;
    const plain = isPlain(asked(read().query));
    if (told.all) now();
    else list.patch((page) => patched(page, told, plain));
    // Which jobs are meant, and their order, may have changed with them.
    if (!plain && told.data.length) soon();
  }, []);
  const grouped = route.query.getAll("group");
  return html`<h1>Jobs</h1>
    <${Search} query=${route.query} names=${schema.data?.data ?? []} columns=${wanted.columns} />
    <${Failure} error=${list.error} />
    ${grouped.length > 0 && html`<${Groups} by=${grouped} wanted=${wanted} />`}
    ${session.role !== "viewer" && html`<${Actions} jobs=${(list.data?.data ?? []).filter((job) => chosen.has(job.id))} done=${() => {
      setChosen(new Set());
      list.again();
    }} />`}
    ${list.data && html`<${List} page=${list.data} wanted=${wanted} chosen=${chosen} setChosen=${setChosen} />`}
    <div class="row centre">
      ${wanted.after && html`<a class="button" href=${`#${location.hash.slice(1)}`} onClick=${(event) => {
        event.preventDefault();
        change({ after: null });
      }}>First part</a>`}
      ${list.data?.has_more && html`<button onClick=${() => change({ after: list.data.last_id })}>Next ${LIMIT}</button>`}
      <a class="button" href=${withQuery(ours("/v1/jobs"), { ...wanted, limit: 1000, format: "csv" })} download="jobs.csv">CSV</a>
    </div>`;
}

/** The newest jobs, whichever they are: a new one comes first, without the server being asked. */
const isPlain = (wanted) => !(wanted.name || wanted.status.length || wanted.filter.length || wanted.sort || wanted.after);

function patched(page, told, plain) {
  const news = new Map(told.data.map((job) => [job.id, job]));
  const gone = new Set(told.gone);
  const first = page.data[0]?.id ?? "";
  const fresh = plain ? told.data.filter((job) => job.id > first).sort((a, b) => (a.id < b.id ? 1 : -1)) : [];
  const kept = page.data.filter((job) => !gone.has(job.id)).map((job) => merged(job, news.get(job.id)));
  const every = [...fresh, ...kept];
  const data = every.slice(0, LIMIT);
  return { ...page, data, last_id: data.at(-1)?.id ?? null, has_more: page.has_more || every.length > LIMIT };
}

function merged(job, news) {
  return news ? { ...news, values: { ...job.values, ...news.values } } : job;
}

function Search({ query, names, columns }) {
  const [name, setName] = useState(null); // as it is typed: what changes meanwhile leaves it alone
  const [condition, setCondition] = useState("");
  const [column, setColumn] = useState("");
  const add = (name, list, text, clear) => (event) => {
    event.preventDefault();
    if (text.trim()) change({ [name]: [...list.filter((each) => each !== text.trim()), text.trim()], after: null });
    clear("");
  };
  const without = (name, list, one) => change({ [name]: list.filter((each) => each !== one).length || name !== "columns" ? list.filter((each) => each !== one) : ["none"], after: null });
  const filters = query.getAll("filter");
  const groups = query.getAll("group");
  return html`<datalist id="columns">${names.map((name) => html`<option value=${name} />`)}</datalist>
    <div class="row">
      <label>Name <input type="search" placeholder="part of it, or with *" value=${name ?? (query.get("name") || "")}
        onInput=${(event) => setName(event.target.value)} onChange=${(event) => {
          setName(null);
          change({ name: event.target.value, after: null });
        }} /></label>
      <${Select} label="Status" value=${query.get("status") || ""} none="all" choices=${STATUSES} take=${(status) => change({ status, after: null })} />
      <form class="row" onSubmit=${add("filter", filters, condition, setCondition)}>
        <label>Only where <input list="columns" placeholder="part2/efficiency:max>0.9" value=${condition} onInput=${(event) => setCondition(event.target.value)} /></label>
        <button>Filter</button>
      </form>
      <form class="row" onSubmit=${add("columns", columns, column, setColumn)}>
        <label>Show also <input list="columns" placeholder="config/lr" value=${column} onInput=${(event) => setColumn(event.target.value)} /></label>
        <button>Add</button>
      </form>
      <${Select} label="Group by" value=${groups[0] || ""} none="–" choices=${groupings(columns, names)} take=${(group) => change({ group })} />
    </div>
    <div class="row centre">
      ${filters.map((each) => html`<button title="take this filter away" onClick=${() => without("filter", filters, each)}>${each} ✕</button>`)}
      ${columns.map((each) => html`<button title="take this column away" onClick=${() => without("columns", columns, each)}>${each} ✕</button>`)}
    </div>`;
}

const groupings = (columns, names) => [...new Set(["status", "owner", "kind", ...columns, ...names.filter((name) => name.startsWith("config/"))])];

function Actions({ jobs, done }) {
  const [told, setTold] = useState(null);
  const act = (action) => async () => {
    const names = new Map(jobs.map((job) => [job.id, title(job)]));
    const answer = await post("/v1/jobs/actions", { action, ids: [...names.keys()], ...(action === "delete" ? { files: true } : {}) });
    const failed = answer.data.filter((each) => each.problem).map((each) => `${names.get(each.id)}: ${each.problem}`);
    setTold({ action, done: answer.data.length - failed.length, failed });
    done();
  };
  if (!jobs.length) return html`<${Told} ...${told ?? { failed: [] }} />`;
  const many = jobs.length === 1 ? title(jobs[0]) : `${jobs.length} jobs`;
  const sure = { cancel: `Cancel ${many}?`, delete: `Delete ${many}, with checkpoints and logs?` };
  return html`<div class="row centre" role="group" aria-label="Actions on the chosen jobs">
    <span>${jobs.length} chosen</span>
    ${ACTIONS.map((action) => html`<${Button} does=${act(action)} sure=${sure[action]}>${action}</${Button}>`)}
    ${jobs.length <= MOST_COMPARED ? html`<a class="button main" href=${link("compare", "", { id: jobs.map((job) => job.id) })}>compare</a>` : html`<span class="quiet">up to ${MOST_COMPARED} are compared</span>`}
  </div>`;
}

function Told({ action, done, failed }) {
  if (!failed.length) return null;
  return html`<div class="note warn" role="alert"><b>${action}: ${done} done, ${failed.length} not</b>
    <ul>${failed.slice(0, MOST_TOLD).map((each) => html`<li>${each}</li>`)}</ul>${failed.length > MOST_TOLD && "…"}</div>`;
}

function List({ page, wanted, chosen, setChosen }) {
  if (!page.data.length) return html`<p class="quiet">${isPlain(wanted) ? "no job yet" : "no such job"}; <a href="#/submit">submit one</a></p>`;
  const toggle = (ids, on) => {
    const next = new Set(chosen);
    for (const id of ids) on ? next.add(id) : next.delete(id);
    setChosen(next);
  };
  const ids = page.data.map((job) => job.id);
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Jobs"><table>
    <thead><tr>
      <th scope="col"><input type="checkbox" aria-label="choose all" checked=${ids.every((id) => chosen.has(id))} onChange=${(event) => toggle(ids, event.target.checked)} /></th>
      ${OWN.map((column) => html`<${Head} name=${column.name} sort=${column.sort} now=${wanted.sort} />`)}
      ${wanted.columns.map((column) => html`<${Head} name=${column} sort=${column} now=${wanted.sort} number />`)}
    </tr></thead>
    <tbody>${page.data.map((job) => html`<tr key=${job.id}>
      <td><input type="checkbox" aria-label=${`choose ${title(job)}`} checked=${chosen.has(job.id)} onChange=${(event) => toggle([job.id], event.target.checked)} /></td>
      <td><a href=${link("job", job.id)}>${title(job)}</a></td>
      <td><${Status} status=${job.status} /></td>
      <td><${Progress} job=${job} /></td>
      <td>${job.owner}</td>
      <td>${instant(job.created_at)}</td>
      <td class="number">${duration(runtime(job))}</td>
      ${wanted.columns.map((column) => html`<td class="number">${value(job.values[column])}</td>`)}
    </tr>`)}</tbody>
  </table></div>`;
}

function Head({ name, sort, now, number }) {
  const down = now === `-${sort}`;
  const up = now === sort;
  const next = down ? sort : up ? null : `-${sort}`;
  return html`<th scope="col" class=${number ? "number" : ""} aria-sort=${down ? "descending" : up ? "ascending" : "none"}>
    <button onClick=${() => change({ sort: next, after: null })}>${name}${down ? " ▼" : up ? " ▲" : ""}</button></th>`;
}
