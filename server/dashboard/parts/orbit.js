// Bodies on their way, each place in the colour of the step that was taken there.
import { number } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { csv, save } from "../save.js";
import { Select } from "./pieces.js";

const SIDE = 420; // of the picture
const EDGE = 14;
const TRAIL = 60; // states that follow each body
const FRAMES = 900; // of a whole film, at 60 a second
const STOPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis
const FAR_OFF = 0.02;
const PLANES = { xy: [0, 1], xz: [0, 2], yz: [1, 2] };

/** A colour from 0 to 1. */
export function shade(share) {
  const place = Math.min(0.9999, Math.max(0, share)) * (STOPS.length - 1);
  const n = Math.floor(place);
  const mixed = STOPS[n].map((low, k) => Math.round(low + (place - n) * (STOPS[n + 1][k] - low)));
  return `rgb(${mixed.join()})`;
}

/** From values above zero to colours, by their logarithm; the few that are far off have those of the ends. */
function colouring(values) {
  const logs = values.filter((each) => each > 0).map(Math.log).sort((a, b) => a - b);
  const low = logs[Math.floor(FAR_OFF * (logs.length - 1))] ?? 0;
  const room = (logs[Math.ceil((1 - FAR_OFF) * (logs.length - 1))] ?? 1) - low || 1;
  return { at: (value) => shade(value > 0 ? (Math.log(value) - low) / room : 0), low: Math.exp(low), high: Math.exp(low + room) };
}

/** Where a place is in the picture, with room for all, one unit as long in x as in y. */
function framing(position, [across, up]) {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const bodies of position) {
    for (const place of bodies) {
      left = Math.min(left, place[across]);
      right = Math.max(right, place[across]);
      bottom = Math.min(bottom, place[up]);
      top = Math.max(top, place[up]);
    }
  }
  const unit = (SIDE - 2 * EDGE) / (Math.max(right - left, top - bottom) || 1);
  return (place) => [SIDE / 2 + unit * (place[across] - (left + right) / 2), SIDE / 2 - unit * (place[up] - (bottom + top) / 2)];
}

/**
 * An orbit that moves.
 *
 * position: [K][N][D]; dt: [K], which colours; time: [K]; marked: states to be ringed; label: what it is.
 */
export function Orbit({ label, position, dt, time, error, marked = [], first = 0 }) {
  const canvas = useRef();
  const [now, setNow] = useState(first);
  const [playing, setPlaying] = useState(false);
  const [plane, setPlane] = useState("xy");
  const [near, setNear] = useState(false);
  const last = position.length - 1;
  const colours = colouring(dt);
  useEffect(() => setNow(first), [first, position]);
  useEffect(() => {
    draw(canvas.current, { position, dt, marked, colours, now, place: framing(near ? position.slice(Math.max(0, now - TRAIL), now + 1) : position, PLANES[plane]) });
  }, [position, now, plane, near]);
  useEffect(() => {
    if (!playing) return undefined;
    const pace = Math.max(1, last / FRAMES);
    let frame = 0;
    let state = now >= last ? 0 : now;
    const step = () => {
      state += pace;
      setNow(Math.min(last, Math.floor(state)));
      if (state >= last) setPlaying(false);
      else frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [playing, position]);
  const at = (n) => html`<span>t = ${number(time[n], 4)}, dt = ${number(dt[n], 3)}${error && html`, |ΔE/E| = ${number(error[n], 3)}`}</span>`;
  const rows = () => csv(["time", "dt", ...position[0].flatMap((place, n) => place.map((_, k) => `${"xyz"[k]}${n}`))], position.map((bodies, k) => [time[k], dt[k], ...bodies.flat()]));
  return html`<figure class="chart">
    <figcaption><span>${label}</span><span class="tools">
      ${position[0][0].length > 2 && html`<${Select} class="beside" label="plane" value=${plane} choices=${Object.keys(PLANES)} take=${setPlane} />`}
      <label class="beside"><input type="checkbox" checked=${near} onChange=${(event) => setNear(event.target.checked)} /> stay near</label>
      <button onClick=${() => save("orbit.svg", asSvg({ label, position, dt, marked, colours, place: framing(position, PLANES[plane]) }), "image/svg+xml")}>SVG</button>
      <button onClick=${() => canvas.current.toBlob((blob) => save("orbit.png", blob))}>PNG</button>
      <button onClick=${() => save("orbit.csv", rows(), "text/csv")}>CSV</button>
    </span></figcaption>
    <canvas ref=${canvas} width=${SIDE} height=${SIDE} role="img" aria-label=${`${position[0].length} bodies, ${position.length} states, steps of ${number(colours.low, 3)} to ${number(colours.high, 3)}; CSV has all of it`}></canvas>
    <div class="row centre">
      <button onClick=${() => setPlaying(!playing)}>${playing ? "pause" : "play"}</button>
      <input type="range" min="0" max=${last} value=${now} aria-label="state" onInput=${(event) => {
        setPlaying(false);
        setNow(Number(event.target.value));
      }} />${at(now)}
    </div>
    <p class="quiet">dt from <span class="scale" role="img" aria-label="dark"></span> ${number(colours.low, 3)} to ${number(colours.high, 3)}${marked.length > 0 && "; rings: the steps that violate"}</p>
  </figure>`;
}

function draw(canvas, { position, dt, marked, colours, now, place }) {
  const paper = canvas.getContext("2d");
  const ink = getComputedStyle(document.documentElement);
  paper.fillStyle = ink.getPropertyValue("--paper");
  paper.fillRect(0, 0, SIDE, SIDE);
  paper.globalAlpha = 0.4;
  position.forEach((bodies, k) => {
    paper.fillStyle = colours.at(dt[k]);
    for (const body of bodies) dot(paper, place(body), 1.3);
  });
  paper.globalAlpha = 1;
  for (let k = Math.max(0, now - TRAIL); k <= now; k += 1) {
    paper.fillStyle = colours.at(dt[k]);
    for (const body of position[k]) dot(paper, place(body), k === now ? 5 : 2.2);
  }
  paper.strokeStyle = ink.getPropertyValue("--bad");
  for (const k of marked) {
    for (const body of position[k]) {
      paper.beginPath();
      paper.arc(...place(body), 6, 0, 2 * Math.PI);
      paper.stroke();
    }
  }
}

function dot(paper, [x, y], radius) {
  paper.beginPath();
  paper.arc(x, y, radius, 0, 2 * Math.PI);
  paper.fill();
}

function asSvg({ label, position, dt, marked, colours, place }) {
  const circle = (body, look) => {
    const [x, y] = place(body);
    return `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" ${look}/>`;
  };
  const dots = position.flatMap((bodies, k) => bodies.map((body) => circle(body, `r="1.6" fill="${colours.at(dt[k])}"`)));
  const rings = marked.flatMap((k) => position[k].map((body) => circle(body, 'r="6" fill="none" stroke="#c22"')));
  const safe = `${label}; dt ${number(colours.low, 3)} (dark) to ${number(colours.high, 3)}`.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${SIDE}" height="${SIDE + 24}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
${dots.join("\n")}
${rings.join("\n")}
<text x="8" y="${SIDE + 14}">${safe}</text>
</svg>`;
}
