// The shell: who is signed in, where one is, and whether what one sees is fresh.
import { get, onSignedOut, remove } from "./api.js";
import { html, render, useEffect, useRef, useState } from "./html.js";
import { start, stop, useLiveState } from "./live.js";
import { Admin } from "./pages/admin.js";
import { Api } from "./pages/api.js";
import { Compare } from "./pages/compare.js";
import { Job } from "./pages/job.js";
import { Jobs } from "./pages/jobs.js";
import { Login } from "./pages/login.js";
import { Queue } from "./pages/queue.js";
import { Science } from "./pages/science.js";
import { Submit } from "./pages/submit.js";
import { Sweeps } from "./pages/sweeps.js";
import { Workers } from "./pages/workers.js";
import { link, useRoute } from "./route.js";

const PAGES = {
  jobs: { title: "Jobs", part: Jobs },
  submit: { title: "Submit", part: Submit, roles: ["admin", "user"] },
  compare: { title: "Compare", part: Compare },
  science: { title: "Science", part: Science },
  sweeps: { title: "Sweeps", part: Sweeps },
  queue: { title: "Queue", part: Queue },
  workers: { title: "Workers", part: Workers },
  admin: { title: "Admin", part: Admin, roles: ["admin"] },
  api: { title: "API", part: Api },
  job: { title: "Job", part: Job, hidden: true },
};

const maySee = (page, session) => !page.roles || page.roles.includes(session.role);

function Shell({ session, signOut }) {
  const route = useRoute();
  const page = PAGES[route.page];
  const Part = page && maySee(page, session) ? page.part : Nowhere;
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
      ${session.needs_token && html`<button onClick=${signOut}>Sign out</button>`}
    </header>
    <main id="content" tabindex="-1"><${Part} key=${`${route.page}/${route.id}`} route=${route} session=${session} /></main>`;
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
  const look = async () => {
    try {
      setSession(await get("/v1/session"));
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
    return onSignedOut(() => leave("The server no longer knows this session: it was signed out, or its token revoked. Sign in again."));
  }, []);
  if (!known) return html`<p class="loading">Loading …</p>`;
  if (!session) return html`<${Login} why=${why} done=${look} />`;
  return html`<${Shell} session=${session} signOut=${async () => {
    await remove("/v1/session");
    leave("Signed out.");
  }} />`;
}

render(html`<${App} />`, document.getElementById("app"));
