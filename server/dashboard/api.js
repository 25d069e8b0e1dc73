// The public API, as any other client calls it. The session's cookie goes along by itself.
import { ours, withQuery } from "./query.js";

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || `The server answered ${status}.`);
    this.status = status;
    this.code = problem.code;
    this.fields = problem.errors || [];
  }
}

export class Away extends Error {}

const listeners = new Set();

/** Call `listener` whenever the server no longer knows who asks. Returns how to stop. */
export function onSignedOut(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function signedOut() {
  for (const listener of listeners) listener();
}

async function call(method, path, { query, body, file, signal, raw = false } = {}) {
  const options = { method, signal, headers: {} };
  if (file !== undefined) {
    options.body = file;
    options.headers["Content-Type"] = "application/octet-stream";
  }
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(withQuery(ours(path), query), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("The server does not answer; it may be starting again.");
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    if (answer.status === 401 && path !== "/v1/session") signedOut();
    throw new ApiError(answer.status, problem);
  }
  if (answer.status === 204) return null;
  return raw ? [new Uint8Array(await answer.arrayBuffer()), answer.headers] : answer.json();
}

export const get = (path, query, more) => call("GET", path, { query, ...more });
export const post = (path, body = {}) => call("POST", path, { body });
export const send = (path, query, file) => call("POST", path, { query, file });
export const patch = (path, body) => call("PATCH", path, { body });
export const remove = (path, query) => call("DELETE", path, { query });

/** Every item of a list that comes in parts, up to `most`. */
export async function all(path, query = {}, most = 10000) {
  const found = [];
  let after;
  do {
    const part = await get(path, { limit: 1000, ...query, after });
    found.push(...part.data);
    after = part.has_more ? part.last_id : undefined;
  } while (after !== undefined && found.length < most);
  return found;
}
