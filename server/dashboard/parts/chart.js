// Lines over epochs: uPlot, with what every figure needs around it.
import { html, useEffect, useRef } from "../html.js";
import { number } from "../format.js";
import { change, useRoute } from "../route.js";
import { csv, save } from "../save.js";
import { asSvg, drawMarks } from "./figure.js";
import { Select } from "./pieces.js";
import { smooth } from "./smoothing.js";

export const COLOURS = ["#3b78e7", "#d0731d", "#2f9c4c", "#c2398b", "#7d5bd9", "#1f9aa8", "#a9852a", "#d1483e"];
const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
const HEIGHT = 240;
const WHOLE = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6, 7].map((power) => n * 10 ** power)).sort((a, b) => a - b); // steps of an axis of epochs
const FEW = 40; // points, that are marked
const SMOOTHINGS = [[0, "1 (raw)"], [5, "5"], [20, "20"], [100, "100"]];

export const colourOf = (n) => COLOURS[n % COLOURS.length];
export const dashOf = (n) => DASHES[Math.floor(n / COLOURS.length) % DASHES.length];

/**
 * A figure of lines.
 *
 * series: [{ label, x, y, colour?, dash?, band?: [low, high] }]; marks: [{ x, label }] on the chart;
 * note: what is shown of how much; onZoom(range or null): somebody looks closer, or at all again;
 * onPick(label, x): somebody chose a line; points: no lines, dots alone; logX: for good, too;
 * logY: unless somebody says otherwise; of: what it is of, which names its files.
 */
export function Chart({ name, series, marks = [], note = "", xLabel = "epoch", onZoom, onPick, points = false, logX = false, logY = false, of = "" }) {
  const place = useRef();
  const plot = useRef();
  const { query } = useRoute();
  const logs = query.getAll("log");
  const log = logs.includes(name) !== logY; // the address says what is not as it comes
  const width = Number(query.get("mean") || 0); // in points of the moving mean; 0: none
  const shown = prepare(series, log, width);
  const shape = shown.lines.map((line) => `${line.label}|${line.colour}|${line.dash}`).join() + log + width;

  useEffect(() => {
    const ink = getComputedStyle(document.documentElement);
    const axis = { stroke: ink.getPropertyValue("--ink"), grid: { stroke: ink.getPropertyValue("--line"), width: 1 } };
    plot.current = new uPlot(
      {
        width: place.current.clientWidth || 600,
        height: HEIGHT,
        scales: { x: logX ? { time: false, distr: 3 } : { time: false, range: closely }, y: log ? { distr: 3 } : { range: roomy } },
        axes: [
          { ...axis, label: xLabel, labelSize: 18, size: 34, ...(xLabel === "epoch" ? { incrs: WHOLE } : {}), values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
          { ...axis, size: 68, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
        ],
        series: [{ label: xLabel }, ...shown.lines.map((line) => drawn(line, points))],
        bands: shown.bands,
        cursor: { focus: { prox: 16 }, drag: { x: true, y: false } },
        focus: { alpha: 0.3 },
        hooks: {
          draw: [(chart) => drawMarks(chart, marksNow.current)],
          setSelect: [(chart) => zoomed.current?.([chart.posToVal(chart.select.left, "x"), chart.posToVal(chart.select.left + chart.select.width, "x")])],
        },
      },
      shown.data,
      place.current,
    );
    const chart = plot.current;
    chart.over.addEventListener("dblclick", () => zoomed.current?.(null));
    chart.over.addEventListener("click", () => {
      const near = chart.series.findIndex((line, n) => n > 0 && line._focus);
      if (near > 0) picked.current?.(shown.lines[near - 1].label, chart.data[0][chart.cursor.idxs[near]]);
    });
    const watch = new ResizeObserver(() => {
      const size = place.current?.clientWidth;
      if (size && size !== chart.width) chart.setSize({ width: size, height: HEIGHT });
    });
    watch.observe(place.current);
    return () => {
      watch.disconnect();
      chart.destroy();
    };
  }, [shape]);

  const marksNow = useRef(marks);
  const zoomed = useRef(onZoom);
  const picked = useRef(onPick);
  marksNow.current = marks;
  zoomed.current = onZoom;
  picked.current = onPick;
  useEffect(() => plot.current?.setData(shown.data, true), [shown.data]);

  const file = of ? `${of} ${name}` : name;
  const figure = () => ({ name, of, xLabel, log, logX, points, lines: shown.lines, marks });
  return html`<figure class="chart">
    <figcaption>
      <span>${name}</span>
      <span class="tools">
        <label class="beside"><input type="checkbox" checked=${log} onChange=${(e) => change({ log: e.target.checked !== logY ? [...logs, name] : logs.filter((each) => each !== name) })} /> log</label>
        ${!points && html`<${Select} class="beside" label="mean of" value=${width} choices=${SMOOTHINGS} take=${(each) => change({ mean: each === "0" ? null : each })} />`}
        <button onClick=${() => save(`${file}.svg`, asSvg(figure()), "image/svg+xml")}>SVG</button>
        <button onClick=${() => savePng(figure(), file)}>PNG</button>
        <button onClick=${() => save(`${file}.csv`, csv(...table(series, xLabel)), "text/csv")}>CSV</button>
      </span>
    </figcaption>
    <div ref=${place} hidden=${series.every((one) => one.x.length === 0)} role="img" aria-label=${`${name} over ${xLabel}: ${describe(series)}`}></div>
    ${shown.hidden > 0 && html`<p class="quiet">${shown.hidden} values that are zero or negative have no place on a log axis</p>`}
    ${note && html`<p class="quiet">${note}</p>`}
    <details>
      <summary>Table</summary>
      <${DataTable} series=${series} xLabel=${xLabel} />
    </details>
  </figure>`;
}

/** From the least to the largest; around one value there is room. */
function closely(_, low, high) {
  if (low === null) return [0, 1];
  return low === high ? [low - 1, high + 1] : [low, high];
}

function roomy(_, low, high) {
  if (low === null) return [0, 1];
  const room = (high - low) * 0.08 || Math.abs(low) * 0.1 || 1;
  return [low - room, high + room];
}

function drawn(line, points) {
  return {
    label: line.label,
    stroke: line.colour,
    dash: line.dash,
    width: points ? 0 : line.faint ? 1 : 1.75,
    alpha: line.faint ? 0.35 : 1,
    spanGaps: true,
    points: { show: (chart) => points || chart.data[0].length < FEW, size: points ? 8 : 5, stroke: line.colour, fill: line.colour },
    value: (_, value) => number(value),
  };
}

/** The lines to draw, their data in uPlot's columns, and how many values a log axis hides. */
function prepare(series, log, width) {
  const lines = [];
  const bands = [];
  let hidden = 0;
  const fit = (values) =>
    values.map((value) => {
      if (!log || value === null || value > 0) return value;
      hidden += 1;
      return null;
    });
  series.forEach((one, n) => {
    const line = { label: one.label, x: one.x, colour: one.colour || colourOf(n), dash: one.dash || dashOf(n) };
    const raw = fit(one.y);
    if (width) lines.push({ ...line, label: `${one.label} (raw)`, y: raw, faint: true });
    lines.push({ ...line, y: width ? smooth(raw, width) : raw });
    if (one.band) {
      const [low, high] = one.band.map(fit);
      const at = lines.length;
      lines.push({ ...line, label: "+ s", y: high, faint: true });
      lines.push({ ...line, label: "− s", y: low, faint: true });
      bands.push({ series: [at + 1, at + 2], fill: `${line.colour}2e` });
    }
  });
  const tables = lines.map((line) => [line.x, line.y]);
  const data = tables.length ? uPlot.join(tables) : [[], []];
  return { lines, bands, data, hidden };
}

function describe(series) {
  return series.map((one) => `${one.label}, ${one.y.length} points, last ${number(one.y.at(-1))}`).join("; ") || "nothing yet";
}

function table(series, xLabel) {
  const every = [...new Set(series.flatMap((one) => one.x))].sort((a, b) => a - b);
  const found = series.map((one) => new Map(one.x.map((x, n) => [x, one.y[n]])));
  return [[xLabel, ...series.map((one) => one.label)], every.map((x) => [x, ...found.map((at) => at.get(x) ?? null)])];
}

function DataTable({ series, xLabel }) {
  const [head, rows] = table(series, xLabel);
  const last = rows.slice(-200);
  return html`<div class="scroll" tabindex="0"><table>
    <thead><tr>${head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
    <tbody>${last.map((row) => html`<tr>${row.map((value) => html`<td class="number">${number(value, 6)}</td>`)}</tr>`)}</tbody>
  </table></div>${rows.length > last.length && html`<p class="quiet">the last ${last.length} of ${rows.length}; CSV has all</p>`}`;
}

function savePng(figure, file) {
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = 2 * image.width;
    canvas.height = 2 * image.height;
    const paper = canvas.getContext("2d");
    paper.scale(2, 2);
    paper.drawImage(image, 0, 0);
    canvas.toBlob((blob) => save(`${file}.png`, blob));
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(asSvg(figure))}`;
}
