// Values as people read them.

export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(digits - 2);
  return String(Number(value.toPrecision(digits)));
}

export function value(given) {
  if (given === null || given === undefined) return "–";
  if (typeof given === "number") return number(given);
  return typeof given === "string" ? given : JSON.stringify(given);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function bytes(size) {
  if (size === null || size === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (size >= 1000 && power < units.length - 1) {
    size /= 1000;
    power += 1;
  }
  return `${size < 10 && power ? size.toFixed(1) : Math.round(size)} ${units[power]}`;
}

export function instant(text) {
  if (!text) return "–";
  return new Date(text).toLocaleString("sv-SE").slice(0, 19);
}

/** How long a job ran, or runs. */
export function runtime(job, now = Date.now()) {
  if (!job.started_at) return null;
  const end = job.finished_at ? Date.parse(job.finished_at) : now;
  return (end - Date.parse(job.started_at)) / 1000;
}

export function title(job) {
  return job.name || job.id;
}

/** A share of steps. */
export const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(2)} %`);
