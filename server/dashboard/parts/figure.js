// Figures as files: axes, ticks, legend and marks, in plain SVG.
import { number } from "../format.js";

const WIDTH = 760;
const PLOT = { left: 92, top: 18, width: 642, height: 316 };
const LEGEND_LINE = 18;
const TICKS = 6;
const ROOM = 0.05;
const SHORT = 0.06; // of the height: a mark without a word

/** Vertical lines where something happened; on a live chart. */
export function drawMarks(chart, marks) {
  const { ctx: paper, bbox: box } = chart;
  paper.save();
  paper.strokeStyle = paper.fillStyle = "#888";
  paper.setLineDash([4, 4]);
  paper.font = `${11 * devicePixelRatio}px sans-serif`;
  for (const { x, label } of marks) {
    const at = chart.valToPos(x, "x", true);
    if (at < box.left || at > box.left + box.width) continue;
    paper.beginPath();
    paper.moveTo(at, label ? box.top : box.top + box.height * (1 - SHORT));
    paper.lineTo(at, box.top + box.height);
    if (!label) paper.setLineDash([1, 0]);
    paper.stroke();
    paper.setLineDash([4, 4]);
    paper.fillText(label, at + 3, box.top + 11 * devicePixelRatio);
  }
  paper.restore();
}

/** A figure as SVG, white paper, black ink. */
export function asSvg({ name, of, xLabel, log, logX, points: dots, lines, marks }) {
  const xs = lines.flatMap((line) => line.x);
  const ys = lines.flatMap((line) => line.y).filter((y) => y !== null);
  const across = scale(xs, logX, PLOT.left, PLOT.left + PLOT.width, { whole: xLabel === "epoch" });
  const up = scale(ys, log, PLOT.top + PLOT.height, PLOT.top, { room: ROOM });
  const bottom = PLOT.top + PLOT.height;
  const parts = [];
  for (const tick of across.ticks) {
    parts.push(`<line x1="${across(tick)}" x2="${across(tick)}" y1="${PLOT.top}" y2="${bottom}" stroke="#e4e4e4"/>`);
    parts.push(text(across(tick), bottom + 16, number(tick), "middle"));
  }
  for (const tick of up.ticks) {
    parts.push(`<line x1="${PLOT.left}" x2="${PLOT.left + PLOT.width}" y1="${up(tick)}" y2="${up(tick)}" stroke="#e4e4e4"/>`);
    parts.push(text(PLOT.left - 6, up(tick) + 4, number(tick), "end"));
  }
  for (const { x, label } of marks) {
    if (x < across.low || x > across.high) continue;
    parts.push(`<line x1="${across(x)}" x2="${across(x)}" y1="${label ? PLOT.top : bottom - SHORT * PLOT.height}" y2="${bottom}" stroke="#888" stroke-dasharray="4 4"/>`);
    parts.push(text(across(x) + 3, PLOT.top + 11, label, "start", 10));
  }
  for (const line of lines) {
    const points = line.x.map((x, n) => (line.y[n] === null ? null : `${across(x).toFixed(2)},${up(line.y[n]).toFixed(2)}`));
    const dash = line.dash.length ? ` stroke-dasharray="${line.dash.join(" ")}"` : "";
    if (dots) for (const place of points.filter(Boolean)) parts.push(`<circle r="3.5" fill="${line.colour}" cx="${place.replace(",", '" cy="')}"/>`);
    else parts.push(`<polyline fill="none" stroke="${line.colour}" stroke-width="1.6" opacity="${line.faint ? 0.35 : 1}"${dash} points="${points.filter(Boolean).join(" ")}"/>`);
  }
  lines.forEach((line, n) => {
    const y = bottom + 58 + n * LEGEND_LINE;
    parts.push(`<line x1="${PLOT.left}" x2="${PLOT.left + 24}" y1="${y - 4}" y2="${y - 4}" stroke="${line.colour}" stroke-width="2"/>`);
    parts.push(text(PLOT.left + 32, y, line.label, "start"));
  });
  const height = bottom + 62 + lines.length * LEGEND_LINE;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
${text(PLOT.left + PLOT.width / 2, bottom + 36, xLabel, "middle")}
<g transform="translate(16 ${PLOT.top + PLOT.height / 2}) rotate(-90)">${text(0, 0, name, "middle")}</g>
${of ? text(PLOT.left + PLOT.width / 2, PLOT.top - 5, of, "middle") : ""}
${parts.join("\n")}
<rect x="${PLOT.left}" y="${PLOT.top}" width="${PLOT.width}" height="${PLOT.height}" fill="none" stroke="black"/>
</svg>`;
}

/** room: share of the range that is left free at both ends; whole: ticks at whole numbers alone. */
function scale(values, log, from, to, { room = 0, whole = false } = {}) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (!Number.isFinite(low)) [low, high] = log ? [1, 10] : [0, 1];
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  if (!log) [low, high] = [low - room * (high - low), high + room * (high - low)];
  const bend = log ? Math.log10 : (value) => value;
  const at = (value) => from + ((bend(value) - bend(low)) / (bend(high) - bend(low))) * (to - from);
  at.low = low;
  at.high = high;
  at.ticks = log ? decades(low, high) : evenly(low, high, whole ? 1 : 0);
  return at;
}

function evenly(low, high, least) {
  const rough = (high - low) / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, [1, 2, 5, 10].map((n) => n * power).find((each) => each >= rough));
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high * (1 + 1e-12); n += 1) ticks.push(Number((n * step).toPrecision(12)));
  return ticks;
}

function decades(low, high) {
  const ticks = [];
  for (let n = Math.ceil(Math.log10(low) - 1e-9); n <= Math.log10(high) + 1e-9; n += 1) ticks.push(10 ** n);
  return ticks.length > 1 ? ticks : [low, high];
}

function text(x, y, content, anchor, size = 12) {
  const safe = String(content).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="${size}">${safe}</text>`;
}
