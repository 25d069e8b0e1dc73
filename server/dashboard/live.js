// One stream of changes a tab. It comes again by itself, and says since when nothing is heard.
import { get, signedOut } from "./api.js";
import { useEffect, useState } from "./html.js";
import { ours, withQuery } from "./query.js";

const RETRY_MS = 2000;
const SILENCE_MS = 40000; // the stream says every 15 s that it is there
const NEWS = Symbol("other columns");
const hearers = new Set();
const watchers = new Set();
let columns = []; // that the jobs of the stream come with
let quit = null; // ends the connection that is open
let state = { live: false, since: null, why: "" };
let running = false;

function set(change) {
  state = { ...state, ...change };
  for (const watcher of watchers) watcher(state);
}

function tell(kind, data) {
  for (const hearer of hearers) hearer(kind, data);
}

/** Call `hear(kind, data)` for each message of the stream, and `all` after each connection. */
export function useLive(hear, wanted = []) {
  useEffect(() => {
    hearers.add(hear);
    return () => hearers.delete(hear);
  }, wanted);
}

/** Have the jobs of the stream come with these columns, from now on. */
export function useColumns(wanted) {
  useEffect(() => {
    if (wanted.join() === columns.join()) return;
    columns = wanted;
    quit?.abort();
  }, [wanted.join()]);
}

/** Whether the stream is there, else since when it is not, and why. */
export function useLiveState() {
  const [seen, setSeen] = useState(state);
  useEffect(() => {
    watchers.add(setSeen);
    setSeen(state);
    return () => watchers.delete(setSeen);
  }, []);
  return seen;
}

export function stop() {
  running = false;
}

/** Begin to listen, once. */
export async function start() {
  if (running) return;
  running = true;
  while (running) {
    const why = await listen().catch(() => "the server does not answer");
    if (!running) break;
    if (why === NEWS) continue;
    set({ live: false, since: state.live || !state.since ? new Date() : state.since, why });
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
  set({ live: false, since: null, why: "" });
}

async function listen() {
  const here = (quit = new AbortController());
  const asked = columns;
  let heard = setTimeout(() => here.abort(), SILENCE_MS);
  try {
    const address = withQuery(ours("/v1/stream"), { topics: ["jobs", "queue"], columns });
    const answer = await fetch(address, { signal: here.signal });
    if (answer.status === 401) {
      running = false;
      signedOut();
      return "signed out";
    }
    if (!answer.ok) return `the server answered ${answer.status}`;
    set({ live: true, since: null, why: "" });
    tell("jobs", { data: [], gone: [], all: true });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "the stream ended";
      clearTimeout(heard);
      heard = setTimeout(() => here.abort(), SILENCE_MS);
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const end = take(part);
        if (end) return end;
      }
    }
  } catch (error) {
    if (asked !== columns) return NEWS; // other columns are wanted: come again at once
    throw error;
  } finally {
    clearTimeout(heard);
    here.abort();
  }
}

function take(part) {
  let kind = "";
  let data = "";
  for (const line of part.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (kind === "restart") return "the server starts again";
  if (kind === "refused") {
    get("/v1/jobs", { limit: 1 }).catch(() => {}); // which says that nobody is signed in
    return "the session ended";
  }
  if (kind) tell(kind, JSON.parse(data));
  return "";
}
