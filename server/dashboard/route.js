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

export function useRoute() {
  const [route, setRoute] = useState(read());
  useEffect(() => {
    const moved = () => setRoute(read());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return route;
}
