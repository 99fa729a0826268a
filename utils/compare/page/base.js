const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const others = data.variants.filter((v) => !v.baseline);
const base = data.variants.find((v) => v.baseline);
const state = { metric: data.metric, sort: "", down: true, text: "", verdict: "", series: "", late: false, off: new Set(), all: false, view: "key" };

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on") for (const [event, action] of Object.entries(value)) node.addEventListener(event, action);
    else if (name === "css") for (const [key, css] of Object.entries(value)) node.style.setProperty(key, css);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== ""));
  return node;
}
const html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const known = (x) => typeof x === "number" && Number.isFinite(x);
const sign = (text) => text.replace("-", "−");
const points = (x, digits = 2) => (known(x) ? sign((100 * x).toFixed(digits)) : "–");
const signed = (x, digits = 2) => (known(x) ? (100 * x > 0 ? "+" : "") + points(x, digits) : "–");
const range = (pair) => (pair && known(pair[0]) && known(pair[1]) ? `${signed(pair[0])} to ${signed(pair[1])}` : "–");
const shares = (d) => (known(d.seed_share) ? `variance: seeds ${Math.round(100 * d.seed_share)} %, images ${100 - Math.round(100 * d.seed_share)} %` : "");
const pValue = (p) => (!known(p) ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const fixed = (x, digits) => (known(x) ? sign(x.toFixed(digits)) : "–");
const short = (text, most = 22) => (text.length > most ? `${text.slice(0, most - 9)}…${text.slice(-8)}` : text);
const colour = (v) => `var(--s${v.index % 10})`;
const dashes = (v) => ["", "6 4", "2 3"][Math.floor(v.index / 10) % 3];
/* A variant of yolov5n is labelled "ca" in a chart, not "yolov5n-ca". */
const nick = (v, most) => short(!v.baseline && v.name.startsWith(`${base.name}-`) ? v.name.slice(base.name.length + 1) : v.name, most);
const metricLabel = () => data.metrics.find((m) => m.key === state.metric).label;
const score = (v) => v.scores[state.metric] || {};
const gap = (v) => v.differences[state.metric] || {};

function amount(x) {
  if (!known(x)) return "–";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) if (x >= size) return `${(x / size).toPrecision(3)} ${unit}`;
  return String(x);
}
function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds / 60);
  return whole < 60 ? `${whole} min` : `${Math.floor(whole / 60)} h ${String(whole % 60).padStart(2, "0")} min`;
}

/* Round steps of at least `least` for an axis from low to high, about `wanted` of them. */
function ticks(low, high, wanted, least = 0) {
  const raw = Math.max((high - low) / Math.max(wanted, 1), least);
  const power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => s >= raw) || power;
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) out.push(i * step);
  return { values: out, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (Math.abs(step / power - 2.5) < 1e-9 ? 1 : 0)) };
}

function tip(text, x, y) {
  const box = find("tip");
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  box.style.setProperty("left", `${Math.min(Math.max(x + 14, 8), window.innerWidth - box.offsetWidth - 8)}px`);
  box.style.setProperty("top", `${Math.min(Math.max(y + 14, 8), window.innerHeight - box.offsetHeight - 8)}px`);
}
function tells(text) {
  return {
    pointermove: (event) => tip(text, event.clientX, event.clientY),
    pointerleave: () => tip(""),
    focus: (event) => { const at = event.target.getBoundingClientRect(); tip(text, at.right, at.bottom); },
    blur: () => tip(""),
    keydown: (event) => { if (event.key === "Escape") tip(""); },
  };
}
