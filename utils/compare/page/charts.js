function drawForest() {
  const rows = others.map((v) => ({ v, d: gap(v) }));
  const ends = rows.flatMap(({ d }) => [d.mean, ...(d.interval || [])]).filter(known);
  let low = Math.min(0, ...ends), high = Math.max(0, ...ends);
  const room = 0.06 * (high - low || 0.02);
  low -= room; high += room;
  const at = (x) => `${(100 * (Math.min(Math.max(x, low), high) - low) / (high - low)).toFixed(3)}%`;
  const wide = window.innerWidth > 760;
  const scale = ticks(100 * low, 100 * high, wide ? 9 : 4);
  const lines = () => scale.values.map((t) => svg("line", { x1: at(t / 100), x2: at(t / 100), y1: 0, y2: "100%", class: "grid" }));
  const bar = (pair, y, stroke, width) => (pair && known(pair[0]) && known(pair[1]) ? [
    svg("line", { x1: at(pair[0]), x2: at(pair[1]), y1: y, y2: y, "stroke-width": width, css: { stroke } }),
    pair.map((x) => svg("line", { x1: at(x), x2: at(x), y1: y - 5, y2: y + 5, "stroke-width": 2, css: { stroke } }))] : []);
  const tone = (v) => (v.tone === "better" || v.tone === "worse" ? `var(--${v.tone})` : "var(--ink)");
  find("forest").replaceChildren(...rows.map(({ v, d }) => {
    const text = known(d.mean)
      ? `${v.name}: ${signed(d.mean)} ${metricLabel()} points; ${data.level} CI ${range(d.interval)}` : `${v.name}: no difference available`;
    const undetectable = known(d.visible) ? svg("rect", { x: at(-d.visible), width: `${(100 * (Math.min(d.visible, high) - Math.max(-d.visible, low)) / (high - low)).toFixed(3)}%`, y: 4, height: 44, fill: "url(#hatch)" }) : "";
    const drawing = svg("svg", { height: 52, role: "img", "aria-label": text }, undetectable, lines(),
      svg("line", { x1: at(0), x2: at(0), y1: 0, y2: 52, class: "zero" }),
      bar(d.interval, 26, tone(v), 3),
      known(d.mean) ? svg("circle", { cx: at(d.mean), cy: 26, r: 5.5, css: { fill: tone(v) } }) : svg("text", { x: "50%", y: 31, "text-anchor": "middle" }, "no difference available"));
    return html("div", { class: "forest-row", on: tells(text) }, html("div", { class: "name" }, v.name, html("small", {}, v.word)), drawing,
      html("div", { class: "value" }, html("b", {}, signed(d.mean)), html("small", {}, range(d.interval)), html("small", {}, shares(d))));
  }), html("div", { class: "forest-row axis" }, html("div", { class: "name" }, html("small", {}, `Difference in ${metricLabel()}, points`)),
    svg("svg", { height: 24, "aria-hidden": "true" }, svg("defs", {}, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(-45)" }, svg("rect", { width: 3, height: 6, css: { fill: "var(--line)" } }))),
      scale.values.map((t) => svg("text", { x: at(t / 100), y: 16, "text-anchor": "middle" }, sign((t > 1e-12 ? "+" : "") + t.toFixed(scale.digits))))), html("div", { class: "value" })));
}

/* An empty chart with axes; `x` and `y` map values to pixels, `least` is the least step across. */
function frame(width, height, xs, ys, titles, describe, least = 0) {
  const across = ticks(xs[0], xs[1], width / 85, least), upwards = ticks(ys[0], ys[1], 6);
  const longest = Math.max(...upwards.values.map((t) => t.toFixed(upwards.digits).length), 2);
  const space = { left: 18 + 8 * longest, right: 14, top: 22, bottom: 40 };
  const x = (value) => space.left + (width - space.left - space.right) * (value - xs[0]) / (xs[1] - xs[0]);
  const y = (value) => height - space.bottom - (height - space.top - space.bottom) * (value - ys[0]) / (ys[1] - ys[0]);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": describe },
    upwards.values.map((t) => [svg("line", { x1: space.left, x2: width - space.right, y1: y(t), y2: y(t), class: "grid" }), svg("text", { x: space.left - 8, y: y(t) + 4, "text-anchor": "end" }, sign(t.toFixed(upwards.digits)))]),
    across.values.map((t) => svg("text", { x: x(t), y: height - space.bottom + 18, "text-anchor": "middle" }, sign(t.toFixed(across.digits)))),
    svg("line", { x1: space.left, x2: width - space.right, y1: height - space.bottom, y2: height - space.bottom, class: "axis" }),
    svg("text", { x: width - space.right, y: height - 5, "text-anchor": "end" }, titles[0]), svg("text", { x: 4, y: 13 }, titles[1]));
  return { picture, x, y };
}
/* The limits of an axis for these values, with a margin and a span of at least `minimum`; not below 0, where none of the figures drawn can be. */
function spread(values, share, minimum = 0) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max(share * (high - low), (minimum - (high - low)) / 2) || share * Math.abs(high) || 1;
  return [Math.max(low - room, 0), high + room];
}

const axes = [["parameters", "Parameters", "million parameters", 1e-6], ["gflops", "GFLOPs", "GFLOPs per image", 1], ["latency_ms", "Latency", "ms per image, median", 1]];

function place(items, width) {
  const taken = items.map((i) => [i.x - 7, i.y - 7, i.x + 7, i.y + 7]);
  const free = (b) => b[0] > 2 && b[2] < width - 2 && b[1] > 18 && taken.every((t) => b[2] < t[0] || b[0] > t[2] || b[3] < t[1] || b[1] > t[3]);
  return items.map((item) => {
    const long = 6.9 * item.text.length;
    const tries = [[item.x + 11, item.y + 4, "start"], [item.x - 11, item.y + 4, "end"], [item.x, item.y - 13, "middle"], [item.x, item.y + 22, "middle"], [item.x + 11, item.y - 10, "start"], [item.x + 11, item.y + 18, "start"], [item.x - 11, item.y - 10, "end"], [item.x - 11, item.y + 18, "end"]];
    for (const [x, y, anchor] of tries) {
      const left = anchor === "start" ? x : anchor === "end" ? x - long : x - long / 2;
      const box = [left, y - 11, left + long, y + 4];
      if (free(box)) { taken.push(box); return { ...item, x, y, anchor }; }
    }
    return null;
  }).filter(Boolean);
}

function drawPareto() {
  const panels = axes.map(([, title]) => html("div", { class: "panel" }, html("h3", {}, `${metricLabel()} against ${title === "GFLOPs" ? title : title.toLowerCase()}`)));
  find("pareto").replaceChildren(...panels);
  axes.forEach(([key, title, unit, factor], number) => {
    const panel = panels[number];
    const width = Math.max(panel.clientWidth - 34, 250), height = Math.round(Math.min(0.8 * width, 360));
    const dots = data.variants.filter((v) => known(v.cost[key]) && known(score(v).mean)).map((v) => ({ v, c: factor * v.cost[key], m: 100 * score(v).mean, s: known(score(v).sd) ? 100 * score(v).sd : 0 }));
    if (!dots.length) { panel.append(html("p", { class: "small" }, "Not measured.")); return; }
    const { picture, x, y } = frame(width, height, spread(dots.map((d) => d.c), 0.16), spread(dots.flatMap((d) => [Math.max(d.m - d.s, 0), d.m + d.s]), 0.12, 0.5), [unit, metricLabel()], `${metricLabel()} against ${title}: ${dots.length} variants`);
    const front = dots.filter((d) => !dots.some((o) => o !== d && o.c <= d.c && o.m >= d.m && (o.c < d.c || o.m > d.m))).sort((a, b) => a.c - b.c);
    picture.append(svg("path", { class: "front", d: front.map((d, i) => `${i ? `H${x(d.c)}V` : `M${x(d.c)} `}${y(d.m)}`).join("") }));
    for (const d of dots) {
      const text = `${d.v.name}\n${metricLabel()} ${d.m.toFixed(2)} ± ${d.s.toFixed(2)}\n${title}: ${d.c.toPrecision(4)} ${unit.split(" ")[0]}${d.v.baseline ? "" : ` (${ratio(d.v, key)})`}`;
      const ink = { stroke: colour(d.v) };
      picture.append(svg("g", { class: "pick", tabindex: 0, role: "img", "aria-label": text.replaceAll("\n", ", "), on: tells(text) },
        svg("line", { x1: x(d.c), x2: x(d.c), y1: y(Math.max(d.m - d.s, 0)), y2: y(d.m + d.s), "stroke-width": 1.6, css: { ...ink, opacity: ".55" } }),
        svg("circle", { class: "halo", cx: x(d.c), cy: y(d.m), r: 14, css: { fill: colour(d.v) } }),
        d.v.baseline ? svg("rect", { x: x(d.c) - 5.5, y: y(d.m) - 5.5, width: 11, height: 11, css: { fill: colour(d.v) } }) : svg("circle", { cx: x(d.c), cy: y(d.m), r: 6, css: { fill: colour(d.v) } })));
    }
    for (const label of place(dots.map((d) => ({ x: x(d.c), y: y(d.m), text: nick(d.v, 20), strong: d.v.baseline })), width)) picture.append(svg("text", { x: label.x, y: label.y, "text-anchor": label.anchor, class: label.strong ? "strong" : null, "pointer-events": "none" }, label.text));
    panel.append(picture);
  });
}

/* The second half of the epochs or all of them. */
function late(band) {
  const from = state.late ? Math.floor(band.epoch.length / 2) : 0;
  return Object.fromEntries(Object.entries(band).map(([name, row]) => [name, row.slice(from)]));
}

function drawCurves() {
  const host = find("chart");
  const series = data.curves.series.find((s) => s.key === state.series);
  const lines = series ? data.variants.filter((v) => !state.off.has(v.index) && data.curves.values[v.index] && data.curves.values[v.index][series.key]).map((v) => ({ v, ...late(data.curves.values[v.index][series.key]) })).filter((l) => l.mean.some(known)) : [];
  if (!lines.length) { host.replaceChildren(html("p", { class: "small" }, series ? "No variant is selected." : "No learning curves available.")); return; }
  const factor = series.points ? 100 : 1;
  const width = Math.max(host.clientWidth - 34, 260), height = Math.round(Math.min(Math.max(0.36 * width, 260), 430));
  const all = lines.flatMap((l) => [...l.low, ...l.high]).filter(known).map((z) => factor * z);
  const most = Math.max(...lines.map((l) => l.epoch[l.epoch.length - 1]));
  const first = Math.min(...lines.map((l) => l.epoch[0]));
  const { picture, x, y } = frame(width, height, [first, Math.max(most, first + 1)], spread(all, 0.04), ["epoch", series.label], `${series.label} over the epochs of ${lines.length} variants`, 1);
  const path = (l, row) => l.epoch.map((e, i) => (known(row[i]) ? `${i && known(row[i - 1]) ? "L" : "M"}${x(e).toFixed(1)} ${y(factor * row[i]).toFixed(1)}` : "")).join("");
  for (const l of lines) {
    const there = l.epoch.map((e, i) => i).filter((i) => known(l.low[i]) && known(l.high[i]));
    if (!there.length) continue;
    const edge = [...there.map((i) => `${x(l.epoch[i]).toFixed(1)} ${y(factor * l.high[i]).toFixed(1)}`), ...there.slice().reverse().map((i) => `${x(l.epoch[i]).toFixed(1)} ${y(factor * l.low[i]).toFixed(1)}`)];
    picture.append(svg("path", { d: `M${edge.join("L")}Z`, css: { fill: colour(l.v), opacity: ".13" } }));
  }
  for (const l of lines) picture.append(svg("path", { d: path(l, l.mean), fill: "none", "stroke-width": l.v.baseline ? 2.8 : 1.9, "stroke-dasharray": dashes(l.v) || null, "stroke-linejoin": "round", css: { stroke: colour(l.v) } }));
  const cursor = svg("line", { y1: 22, y2: height - 40, class: "axis", visibility: "hidden" });
  picture.append(cursor);
  picture.addEventListener("pointermove", (event) => {
    const bounds = picture.getBoundingClientRect(), inside = (event.clientX - bounds.left) * width / bounds.width;
    const epoch = lines[0].epoch.reduce((a, b) => (Math.abs(x(b) - inside) < Math.abs(x(a) - inside) ? b : a));
    cursor.setAttribute("x1", x(epoch)); cursor.setAttribute("x2", x(epoch)); cursor.setAttribute("visibility", "visible");
    const row = lines.map((l) => ({ l, m: l.mean[l.epoch.indexOf(epoch)] })).filter((r) => known(r.m)).sort((a, b) => b.m - a.m);
    tip([`epoch ${epoch}`, ...row.map((r) => `${(factor * r.m).toPrecision(4)}  ${short(r.l.v.name, 28)}`)].join("\n"), event.clientX, event.clientY);
  });
  picture.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); tip(""); });
  host.replaceChildren(picture);
}

function drawLegend() {
  find("legend").replaceChildren(...data.variants.filter((v) => Object.keys(data.curves.values[v.index]).length).map((v) => html("li", {}, html("button", { type: "button", "aria-pressed": String(!state.off.has(v.index)), on: { click: (event) => {
    if (state.off.has(v.index)) state.off.delete(v.index); else state.off.add(v.index);
    event.currentTarget.setAttribute("aria-pressed", String(!state.off.has(v.index)));
    drawCurves();
  } } }, html("i", { class: "dot", css: { "--c": colour(v) }, "aria-hidden": "true" }), v.name))));
}

function drawClasses() {
  const maximum = 12;
  const excludesZero = (pair) => pair && (pair[0] > 0 || pair[1] < 0);
  const spreadOf = (v, c) => points(v.class_ap[c], 1) + (known(v.class_sd[c]) ? ` ± ${points(v.class_sd[c], 1)}` : "");
  const rows = data.classes.map((name, c) => ({ name, c, most: Math.max(...others.map((v) => Math.abs(v.classes[c] || 0)), 0) })).sort((a, b) => b.most - a.most);
  const kept = state.all ? rows : rows.slice(0, maximum);
  const limit = Math.max(...rows.map((r) => r.most), 0.005);
  find("heat").replaceChildren(
    html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "Class"), html("th", { scope: "col" }, short(base.name, 40), html("small", {}, "AP")), others.map((v) => html("th", { scope: "col" }, short(v.name, 40))))),
    html("tbody", {}, kept.map((r) => html("tr", {}, html("th", { scope: "row" }, r.name), html("td", { class: "dim" }, spreadOf(base, r.c)), others.map((v) => {
      const value = v.classes[r.c];
      const strength = known(value) ? Math.round(62 * Math.min(Math.abs(value) / limit, 1)) : 0;
      return html("td", { title: known(value) ? `95 % CI ${range(v.class_intervals[r.c])}, adjusted for the number of classes and variants` : null, css: { background: strength ? `color-mix(in srgb, var(--${value > 0 ? "s1" : "s2"}) ${strength}%, var(--card))` : "transparent" } }, signed(value, 1), excludesZero(v.class_intervals[r.c]) ? " *" : "", html("small", {}, spreadOf(v, r.c)));
    })))));
  const more = find("more");
  more.hidden = rows.length <= maximum;
  more.textContent = state.all ? `Show the ${maximum} with the largest differences` : `Show all ${rows.length} classes`;
}
