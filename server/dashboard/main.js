// The shell: who is signed in, where one is, and whether what one sees is fresh.
import { get, onSignedOut, post, remove } from "./api.js";
import { html, render, useEffect, useRef, useState } from "./html.js";
import { start, stop, useLiveState } from "./live.js";
import { Jobs } from "./pages/jobs.js";
import { Login } from "./pages/login.js";
import { useLoaded } from "./load.js";
import { Button, Failure } from "./parts/pieces.js";
import { link, sharedLink, takeToken, useRoute } from "./route.js";

const SHARED_DAYS = 7;

const PAGES = {
  jobs: { title: "Jobs", part: Jobs },
  submit: { title: "Submit", load: () => import("./pages/submit.js"), roles: ["admin", "user"] },
  compare: { title: "Compare", load: () => import("./pages/compare.js") },
  science: { title: "Science", load: () => import("./pages/science.js") },
  sweeps: { title: "Sweeps", load: () => import("./pages/sweeps.js") },
  queue: { title: "Queue", load: () => import("./pages/queue.js") },
  workers: { title: "Workers", load: () => import("./pages/workers.js") },
  admin: { title: "Admin", load: () => import("./pages/admin.js"), roles: ["admin"] },
  api: { title: "API", load: () => import("./pages/api.js") },
  job: { title: "Job", load: () => import("./pages/job.js"), hidden: true },
};
const loaded = new Map(); // pages whose modules are there

const maySee = (page, session) => !page.roles || page.roles.includes(session.role);

function Shell({ session, signOut }) {
  const route = useRoute();
  const page = PAGES[route.page];
  const Part = page && maySee(page, session) ? (page.part ?? Later) : Nowhere;
  const first = useRef(true);
  useEffect(() => {
    document.title = `${page ? page.title : "Nothing here"} – Orrery`;
    if (!first.current) document.querySelector("main").focus({ preventScroll: true });
    first.current = false;
  }, [route.page, route.id]);
  const shown = Object.entries(PAGES).filter(([, each]) => !each.hidden && maySee(each, session));
  return html`<a class="skip" href="#content" onClick=${(event) => {
      event.preventDefault();
      document.querySelector("main").focus();
    }}>To the content</a>
    <header>
      <a class="brand" href="#/jobs">Orrery</a>
      <nav aria-label="Pages">${shown.map(
        ([name, each]) => html`<a href=${link(name)} aria-current=${route.page === name ? "page" : undefined}>${each.title}</a>`,
      )}</nav>
      <${Freshness} />
      <span class="quiet">${session.name} (${session.role})</span>
      ${session.needs_token && session.role === "admin" && html`<${Share} />`}
      ${session.needs_token && html`<button onClick=${signOut}>Sign out</button>`}
    </header>
    <main id="content" tabindex="-1"><${Part} key=${`${route.page}/${route.id}`} route=${route} session=${session} page=${page} /></main>`;
}

/** A page whose module comes when somebody goes there. */
function Later({ page, ...given }) {
  const found = useLoaded(async () => {
    if (!loaded.has(page)) loaded.set(page, await page.load());
    return loaded.get(page);
  }, [page]);
  const there = found.data ?? loaded.get(page);
  if (there) return html`<${there.default} ...${given} />`;
  if (!found.error) return html`<p class="loading">Loading …</p>`;
  return html`<h1>${page.title}</h1><${Failure} error=${new Error("This page did not come: the server may be starting again, or have another version now.")} />
    <p><button onClick=${() => location.reload()}>Load it again</button></p>`;
}

/** A link that shows what one sees to somebody without a token, and lets them change nothing. */
function Share() {
  const [made, setMade] = useState("");
  const make = async () => setMade(sharedLink((await post("/v1/tokens", { name: `viewer's link, ${new Date().toISOString().slice(0, 16)}`, role: "viewer", expires_in_s: 86400 * SHARED_DAYS })).secret));
  return html`<${Button} does=${make}>Share</${Button}>
    ${made && html`<div class="note" role="status">Whoever has this link sees this page, and all others, for ${SHARED_DAYS} days, and changes nothing; Admin revokes it.
      <input readonly aria-label="viewer's link" value=${made} onFocus=${(event) => event.target.select()} /> <button onClick=${() => setMade("")}>done</button></div>`}`;
}

function Freshness() {
  const { live, since, why } = useLiveState();
  const text = live ? "live" : since ? `stale since ${since.toLocaleTimeString("sv-SE")}: ${why}` : "connecting …";
  return html`<span role="status" class=${live ? "live" : since ? "stale" : "quiet"}>${text}</span>`;
}

function Nowhere() {
  return html`<h1>Nothing here</h1><p>There is no such page for you. <a href="#/jobs">Jobs</a></p>`;
}

function App() {
  const [session, setSession] = useState(null);
  const [why, setWhy] = useState("");
  const [known, setKnown] = useState(false);
  const [given, setGiven] = useState(takeToken);
  const look = async () => {
    try {
      const found = await get("/v1/session");
      setSession(found);
      start();
    } catch (error) {
      if (error.status !== 401) {
        setWhy(error.message);
        setTimeout(look, 2000);
      }
    }
    setKnown(true);
  };
  const leave = (reason) => {
    stop();
    setSession(null);
    setWhy(reason);
  };
  useEffect(() => {
    look();
    const moved = () => {
      const later = takeToken();
      if (!later) return;
      setGiven(later);
      dispatchEvent(new HashChangeEvent("hashchange")); // where the token was, a page is now
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    return onSignedOut(() => leave("The server no longer knows this session: it was signed out, or its token revoked. Sign in again."));
  }, []);
  if (!known) return html`<p class="loading">Loading …</p>`;
  const isAnother = given && session?.needs_token && !given.isShared;
  if (!session || isAnother) return html`<${Login} why=${why} given=${given} done=${() => {
    setGiven(null);
    look();
  }} />`;
  return html`<${Shell} session=${session} signOut=${async () => {
    await remove("/v1/session");
    leave("Signed out.");
  }} />`;
}

render(html`<${App} />`, document.getElementById("app"));
