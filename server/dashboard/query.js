// Parameters of an address: lists give one each, what is empty gives none.

function fill(given, query) {
  for (const [name, value] of Object.entries(query)) {
    given.delete(name);
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== null && each !== "") given.append(name, each);
    }
  }
  return given;
}

/** A path of the server, from where the page is: before it there may be more, of a proxy. */
export const ours = (path) => path.replace(/^\//, "");

/** `path?name=value…`, with the parameters of `before` that `query` does not replace. */
export function withQuery(path, query = {}, before = "") {
  const text = fill(new URLSearchParams(before), query).toString();
  return text ? `${path}?${text}` : path;
}
