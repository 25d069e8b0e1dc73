// All that a page shows is in its address: `#/jobs?sort=-created_at`.
import { useEffect, useState } from "./html.js";
import { withQuery } from "./query.js";

export function read(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page = "", id = ""] = path.split("/").map(decoded);
  return { page: page || "jobs", id, query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // of no page that there is
  }
}

/** The address of a page. */
export function link(page, id = "", query = {}) {
  const path = [page, ...(id ? [id] : [])].map(encodeURIComponent).join("/");
  return withQuery(`#/${path}`, query);
}

export function go(page, id, query) {
  location.hash = link(page, id, query);
}

/** The same page with other parameters; null takes one away. */
export function change(parameters) {
  const { page, id, query } = read();
  location.hash = withQuery(link(page, id), parameters, query);
}

/** The token in the address, as `orrery up` and a viewer's link have it, and the page to show; null without. */
export function takeToken() {
  const given = /^#token=([^&]+)(?:&to=(.*))?$/.exec(location.hash);
  if (!given) return null;
  const to = given[2] && decoded(given[2]);
  history.replaceState(null, "", to?.startsWith("#/") ? to : "#/jobs");
  return { secret: decoded(given[1]), isShared: given[2] !== undefined };
}

/** Where somebody without a token of their own sees what I see. */
export function sharedLink(secret) {
  return `${location.href.split("#")[0]}#token=${encodeURIComponent(secret)}&to=${encodeURIComponent(location.hash || "#/jobs")}`;
}

export function useRoute() {
  const [route, setRoute] = useState(read());
  useEffect(() => {
    const moved = () => setRoute(read());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return route;
}
