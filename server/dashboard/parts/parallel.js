// Parallel coordinates: an axis a field, a line a trial, better ones darker.
import { number, value } from "../format.js";
import { html } from "../html.js";

const WIDTH = 960;
const HEIGHT = 280;
const EDGE = { left: 60, right: 60, top: 34, bottom: 18 };

export function Parallel({ axes, rows, upIsBetter, logs }) {
  if (rows.length < 2) return html`<p class="quiet">two trials with a value make a figure</p>`;
  const scales = axes.map((axis) => scaleOf(rows.map((row) => row[axis]), logs.includes(axis)));
  const across = (n) => EDGE.left + (n * (WIDTH - EDGE.left - EDGE.right)) / Math.max(1, axes.length - 1);
  const last = scales.at(-1);
  const merit = (row) => {
    const share = last.share(row[axes.at(-1)]);
    return upIsBetter ? share : 1 - share;
  };
  const up = (share) => HEIGHT - EDGE.bottom - share * (HEIGHT - EDGE.top - EDGE.bottom);
  return html`<div class="scroll"><svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} width="100%" role="img" aria-label=${`${rows.length} trials over ${axes.join(", ")}; the table below has the same`}>
    ${[...rows].sort((a, b) => merit(a) - merit(b)).map((row) => html`<polyline fill="none" stroke="var(--accent)" stroke-width="1.6" opacity=${0.12 + 0.8 * merit(row) ** 2}
      points=${axes.map((axis, n) => `${across(n)},${up(scales[n].share(row[axis]))}`).join(" ")} />`)}
    ${axes.map((axis, n) => html`<g key=${axis}>
      <line x1=${across(n)} x2=${across(n)} y1=${EDGE.top} y2=${HEIGHT - EDGE.bottom} stroke="currentColor" />
      <text x=${across(n)} y="14" text-anchor=${n === 0 ? "start" : n === axes.length - 1 ? "end" : "middle"} font-size="12" fill="currentColor">${axis}</text>
      <text x=${across(n)} y="29" text-anchor="middle" font-size="11" fill="currentColor">${scales[n].high}</text>
      <text x=${across(n)} y=${HEIGHT - 4} text-anchor="middle" font-size="11" fill="currentColor">${scales[n].low}</text>
    </g>`)}
  </svg></div>`;
}

/** From a value to its share of an axis. */
function scaleOf(values, log) {
  if (values.every((each) => typeof each === "number")) {
    const low = Math.min(...values);
    const high = Math.max(...values);
    const bend = log && low > 0 ? Math.log : (each) => each;
    const room = bend(high) - bend(low) || 1;
    return { low: number(low), high: number(high), share: (each) => (bend(each) - bend(low)) / room };
  }
  const kinds = [...new Set(values.map((each) => JSON.stringify(each)))].sort();
  const named = (text) => value(JSON.parse(text));
  return {
    low: named(kinds[0]),
    high: named(kinds.at(-1)),
    share: (each) => kinds.indexOf(JSON.stringify(each)) / Math.max(1, kinds.length - 1),
  };
}
