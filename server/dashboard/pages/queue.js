// What waits, in the order in which it will be taken, and why.
import { get } from "../api.js";
import { instant, title } from "../format.js";
import { html } from "../html.js";
import { useLive } from "../live.js";
import { useLoaded, useQuietly } from "../load.js";
import { Failure, Table } from "../parts/pieces.js";
import { link } from "../route.js";

export default function Queue() {
  const queue = useLoaded((signal) => get("/v1/queue", { limit: 500 }, { signal }), []);
  const again = useQuietly(queue.again, 500, 3000);
  useLive((kind) => kind === "queue" && again(), []);
  const rows = queue.data?.data.map((job, n) => ({ ...job, place: n + 1 }));
  return html`<h1>Queue</h1>
    <${Failure} error=${queue.error} />
    <${Table} caption="Waiting jobs" rows=${rows} empty="nothing waits" columns=${[
      { name: "turn", number: true, of: (job) => job.place },
      { name: "job", of: (job) => html`<a href=${link("job", job.id)}>${title(job)}</a>` },
      { name: "why it waits", wrap: true, of: (job) => job.waits_for ?? "its turn" },
      { name: "kind", of: (job) => job.kind },
      { name: "priority", number: true, of: (job) => job.priority },
      { name: "since", of: (job) => instant(job.created_at) },
    ]} />
    ${queue.data?.has_more && html`<p class="quiet">the first 500</p>`}`;
}
