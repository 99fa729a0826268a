const ratio = (v, key) => (v.baseline || !known(v.ratio[key]) ? "" : `× ${v.ratio[key].toFixed(2)}`);
const cost = (key, label, title, show) => ({ key, label, title, group: "Cost", value: (v) => v.cost[key], cell: (v) => [show(v.cost[key]), html("small", {}, ratio(v, key))] });
const views = [["key", "Key figures"], ["cost", "Cost"], ["all", "All"]];
const always = new Set(["name", "verdict"]);
const key = new Set(["name", "verdict", "mean", "gap", "interval", "p", "best", "parameters", "gflops", "latency_ms"]);
const visible = () => columns.filter((c) => state.view === "all" || (state.view === "cost" ? c.group === "Cost" || always.has(c.key) || c.key === "mean" : key.has(c.key)));

const columns = [
  { key: "name", label: "Variant", group: "", text: true, value: (v) => v.name.toLowerCase() },
  { key: "verdict", label: "Verdict", group: "", text: true, value: (v) => v.word, title: "From the interval of AP alone", cell: (v) => [html("span", { class: `chip ${v.tone}` }, v.word), v.seeds.done < v.seeds.wanted ? html("small", { class: "mark" }, `${v.seeds.done} of ${v.seeds.wanted} seeds`) : ""] },
  { key: "mean", label: () => metricLabel(), group: "After the last epoch", value: (v) => score(v).mean, title: "Mean ± standard deviation over the seeds, in points", cell: (v) => [html("b", {}, points(score(v).mean)), known(score(v).sd) ? ` ± ${points(score(v).sd)}` : ""] },
  { key: "gap", label: "Difference", group: "After the last epoch", value: (v) => gap(v).mean, title: "Mean of the paired differences of runs with the same seed", cell: (v) => [html("b", { class: state.metric === data.metric ? v.tone : "" }, v.baseline ? "–" : signed(gap(v).mean))] },
  { key: "interval", label: () => `${data.level} CI`, group: "After the last epoch", value: (v) => gap(v).interval && gap(v).interval[0], title: "For other seeds and other images together, adjusted for the number of variants and of figures of its family", cell: (v) => [range(gap(v).interval), html("small", {}, shares(gap(v)))] },
  { key: "p", label: "p", group: "After the last epoch", value: (v) => gap(v).p, up: true, title: "For seeds and images together, adjusted as the interval", cell: (v) => [pValue(gap(v).p)] },
  { key: "best", label: "Best epoch", group: "Selected", value: (v) => (v.best[state.metric] || {}).mean, title: "The epoch of each run that was best in validation: optimistic if it is also measured there", cell: (v) => { const b = v.best[state.metric] || {}; return [points(b.mean), known(b.sd) ? ` ± ${points(b.sd)}` : "", html("small", {}, v.best_epochs ? `epoch ${v.best_epochs}` : "")]; } },
  ...data.detection.map((m) => ({ key: m.key, label: m.label, group: "At the best mean F1", value: (v) => v.detection[m.key].mean, title: `${m.title} at IoU 0.50, mean over the classes ± standard deviation over the seeds, in points; descriptive`, cell: (v) => { const d = v.detection[m.key]; return [points(d.mean), known(d.sd) ? ` ± ${points(d.sd)}` : ""]; } })),
  { key: "start", label: "AP", group: "Before the first step", value: (v) => v.start.ap, title: "AP with the start weights, before training", cell: (v) => [points(v.start.ap)] },
  { key: "transferred", label: "Tensors", group: "Before the first step", value: (v) => v.start.share, title: "Tensors of the start weights that the model takes, and the share of its parameters", cell: (v) => [v.start.transferred || "–", html("small", {}, known(v.start.share) ? `${(100 * v.start.share).toFixed(0)} % of parameters` : "")] },
  cost("parameters", "Parameters", "With the study's number of classes", amount),
  cost("gflops", "GFLOPs", "For one image, including the matrix products of attention", (x) => fixed(x, 2)),
  cost("latency_ms", "Latency p50", "Median, one image at a time", (x) => (known(x) ? `${x.toFixed(1)} ms` : "–")),
  cost("latency_p95_ms", "p95", "95th percentile of the latency", (x) => (known(x) ? `${x.toFixed(1)} ms` : "–")),
  cost("images_per_second", "Throughput", "Images per second, in batches", (x) => (known(x) ? `${x.toFixed(1)} /s` : "–")),
  cost("memory_mb", "Memory", "Peak memory of inference", (x) => (known(x) ? `${x.toFixed(0)} MB` : "–")),
  cost("train_memory_mb", "Memory, training", "Peak memory of training", (x) => (known(x) ? `${x.toFixed(0)} MB` : "–")),
  cost("train_seconds", "Training time", "Training time of one run", duration),
];
const label = (column) => (typeof column.label === "function" ? column.label() : column.label);

function shown() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = data.variants.filter((v) => {
    const hay = [v.name, v.cfg, ...v.edits].join(" ").toLowerCase();
    return words.every((w) => hay.includes(w)) && (!state.verdict || v.word === state.verdict);
  });
  const column = columns.find((c) => c.key === state.sort);
  if (!column) return kept;
  const missing = (x) => x === null || x === undefined || (typeof x === "number" && !Number.isFinite(x));
  return kept.slice().sort((a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y) || a.index - b.index;
    return (x < y ? -1 : x > y ? 1 : 0) * (state.down ? -1 : 1) || a.index - b.index;
  });
}

function drawTable() {
  const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.sort : null;
  const rows = shown(), drawn = visible();
  const groups = [];
  for (const column of drawn) {
    if (groups.length && groups[groups.length - 1].name === column.group) groups[groups.length - 1].span += 1;
    else groups.push({ name: column.group, span: 1 });
  }
  groups[0].span -= 1;
  const starts = new Set(drawn.filter((c, i) => i > 0 && c.group !== drawn[i - 1].group).map((c) => c.key));
  const head = html("thead", { role: "rowgroup" },
    html("tr", { class: "groups", role: "row" }, html("td", { role: "cell" }), groups.map((g) => (g.name ? html("th", { colspan: g.span, scope: "colgroup", role: "columnheader", class: "group" }, g.name) : html("td", { colspan: g.span, role: "cell" })))),
    html("tr", { role: "row" }, drawn.map((c) => html("th", { scope: "col", role: "columnheader", class: `${c.text ? "left" : ""} ${starts.has(c.key) ? "group" : ""}`, "aria-sort": state.sort === c.key ? (state.down ? "descending" : "ascending") : "none" },
      html("button", { type: "button", title: c.title, "data-sort": c.key, on: { click: () => sortBy(c.key) } }, label(c))))));
  const body = html("tbody", { role: "rowgroup" }, rows.map((v) => html("tr", { role: "row", class: v.baseline ? "baseline" : null, "data-variant": v.index },
    html("th", { scope: "row", role: "rowheader" }, html("i", { class: "dot", css: { "--c": colour(v) }, "aria-hidden": "true" }), v.name, v.subtitle ? html("small", {}, v.subtitle) : ""),
    drawn.slice(1).map((c) => html("td", { role: "cell", "data-label": label(c), class: `${c.key === "verdict" ? "verdict-cell" : ""} ${starts.has(c.key) ? "group" : ""}` }, c.cell(v))))));
  if (!rows.length) {
    body.append(html("tr", { role: "row", class: "nothing" }, html("td", { role: "cell", colspan: drawn.length }, "No variant has this name, change and verdict.",
      html("button", { type: "button", class: "quiet", on: { click: () => { state.text = state.verdict = find("find").value = find("only").value = ""; drawTable(); find("find").focus(); } } }, "Show all variants"))));
  }
  find("grid").replaceChildren(head, body);
  find("count").textContent = rows.length === data.variants.length ? `${rows.length} variants` : `${rows.length} of ${data.variants.length} variants`;
  if (focused) { const again = find("grid").querySelector(`[data-sort="${focused}"]`); if (again) again.focus(); }
}

function sortBy(key, down) {
  const column = columns.find((c) => c.key === key);
  state.down = down === undefined ? (state.sort === key ? !state.down : !(column && (column.text || column.up))) : down;
  state.sort = key;
  find("sort").value = key;
  find("turn").textContent = state.down ? "Largest first" : "Smallest first";
  drawTable();
}

function setUpTable() {
  find("controls").hidden = false;
  find("find").addEventListener("input", (event) => { state.text = event.target.value; drawTable(); });
  find("only").append(html("option", { value: "" }, "all"), ...[...new Set(data.variants.map((v) => v.word))].map((w) => html("option", { value: w }, w)));
  find("only").addEventListener("change", (event) => { state.verdict = event.target.value; drawTable(); });
  find("sort").append(html("option", { value: "" }, "plan"), ...columns.map((c) => html("option", { value: c.key }, label(c))));
  find("sort").addEventListener("change", (event) => sortBy(event.target.value, state.down));
  for (const [value, name] of views) find("columns").append(html("label", {}, html("input", { type: "radio", name: "columns", value, checked: value === state.view, on: { change: () => { state.view = value; drawTable(); } } }), html("span", {}, name)));
  find("turn").addEventListener("click", () => sortBy(state.sort, !state.down));
}
