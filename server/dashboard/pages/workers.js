// Who trains: workers, their GPUs, and the jobs that they have.
import { get, post } from "../api.js";
import { bytes, instant } from "../format.js";
import { html, useEffect } from "../html.js";
import { useLoaded } from "../load.js";
import { Button, Failure, Table } from "../parts/pieces.js";
import { link } from "../route.js";

const LOOK_MS = 5000;
const SILENCE_MS = 90000; // the server notes once a minute who is there

const isSilent = (worker) => worker.left_at || !worker.last_seen_at || Date.now() - Date.parse(worker.last_seen_at) > SILENCE_MS;

export default function Workers({ session }) {
  const workers = useLoaded((signal) => get("/v1/workers", {}, { signal }), []);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || workers.again(), LOOK_MS);
    return () => clearInterval(timer);
  }, []);
  const columns = [
    { name: "worker", of: (worker) => worker.name },
    { name: "host", of: (worker) => worker.host },
    { name: "slots", number: true, of: (worker) => worker.slots },
    { name: "memory", number: true, of: (worker) => bytes(worker.memory_bytes) },
    { name: "GPUs", wrap: true, of: (worker) => worker.gpus.map((gpu) => `${gpu.name} (${bytes(gpu.memory_bytes)})`).join(", ") || "none" },
    { name: "labels", wrap: true, of: (worker) => Object.entries(worker.labels).map(([key, text]) => `${key}=${text}`).join(", ") },
    { name: "versions", wrap: true, of: (worker) => Object.entries(worker.versions).map(([name, version]) => `${name} ${version}`).join(", ") },
    { name: "last seen", of: (worker) => instant(worker.last_seen_at) },
    { name: "jobs", of: (worker) => worker.jobs.map((id) => html`<a href=${link("job", id)}>…${id.slice(-8)}</a> `) },
    { name: "", wrap: true, of: (worker) => worker.refusal || (isSilent(worker) ? "not heard of any more" : worker.trouble || (worker.draining ? "draining" : "")) },
  ];
  if (session.role === "admin") {
    columns.push({
      name: "drain",
      of: (worker) => !worker.draining && html`<${Button} sure=${`Let ${worker.name} finish its jobs and take no more?`} does=${async () => {
        await post(`/v1/workers/${worker.id}/drain`);
        workers.again();
      }}>drain</${Button}>`,
    });
  }
  return html`<h1>Workers</h1>
    <${Failure} error=${workers.error} />
    <${Table} caption="Workers" rows=${workers.data?.data} columns=${columns} empty="no worker ever came: start one with orrery work" />`;
}
