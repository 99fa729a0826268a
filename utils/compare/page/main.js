function redraw() {
  find("metric-title").textContent = data.metrics.find((m) => m.key === state.metric).title;
  drawTable(); drawForest(); drawPareto();
}

function setUpMetrics() {
  for (const m of data.metrics) {
    find("metrics").append(html("label", { title: m.title }, html("input", { type: "radio", name: "metric", value: m.key, checked: m.key === state.metric, on: { change: () => { state.metric = m.key; redraw(); } } }), html("span", {}, m.label)));
  }
  find("switch").hidden = false;
}

function setUpTheme() {
  const button = find("theme"), root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.querySelector(".label").textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", dark() ? "Light colours" : "Dark colours"); };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  button.hidden = false;
  name();
}

function setUpCurves() {
  const select = find("series");
  for (const s of data.curves.series) select.append(html("option", { value: s.key }, s.label));
  state.series = data.curves.series.length ? data.curves.series[0].key : "";
  select.addEventListener("change", () => { state.series = select.value; drawCurves(); });
  find("late").addEventListener("change", (event) => { state.late = event.target.checked; drawCurves(); });
  find("series-controls").hidden = !data.curves.series.length;
  drawLegend();
}

setUpTheme(); setUpMetrics(); setUpTable(); setUpCurves();
redraw(); drawCurves(); drawClasses(); setUpGallery();
find("more").addEventListener("click", () => { state.all = !state.all; drawClasses(); });
let width = window.innerWidth;
window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; redraw(); drawCurves(); } });
