function setUpGallery() {
  const scenes = [...document.querySelectorAll(".scene")];
  if (!scenes.length) return;
  let view = "boxes", current = 0, open = null;
  const choose = find("scene");
  const show = () => {
    scenes.forEach((scene, i) => { scene.hidden = i !== current; });
    for (const tile of document.querySelectorAll(".tile[data-view]")) tile.hidden = tile.dataset.view !== view;
    choose.value = String(current);
    find("scene-count").textContent = `${current + 1} of ${scenes.length}`;
  };
  const step = (by) => { current = (current + by + scenes.length) % scenes.length; show(); };
  scenes.forEach((scene, i) => choose.append(html("option", { value: i }, `${i + 1}  ${short(scene.dataset.name, 40)}`)));
  choose.addEventListener("change", () => { current = Number(choose.value); show(); });
  find("before").addEventListener("click", () => step(-1));
  find("after").addEventListener("click", () => step(1));
  for (const input of document.querySelectorAll("#views input")) input.addEventListener("change", () => { view = input.value; show(); });
  find("gallery-controls").hidden = false;

  const dialog = find("pair"), slider = find("wipe");
  const pictures = dialog.querySelectorAll(".wipe img");
  const wipe = () => { dialog.querySelector(".wipe").style.setProperty("--at", `${slider.value}%`); };
  const tileOf = (name) => scenes[current].querySelector(`.tile[data-view="${view}"][data-variant="${name}"] img`);
  const pair = () => {
    [find("left"), find("right")].forEach((select, i) => {
      const image = tileOf(select.value);
      pictures[i].src = image.src;
      pictures[i].alt = image.alt;
    });
  };
  slider.addEventListener("input", wipe);
  for (const select of [find("left"), find("right")]) select.addEventListener("change", pair);
  find("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { if (open) open.focus(); });
  for (const button of document.querySelectorAll(".tile button")) button.addEventListener("click", () => {
    open = button;
    const tiles = [...scenes[current].querySelectorAll(`.tile[data-view="${view}"]`)].filter((t) => t.querySelector("img"));
    for (const select of [find("left"), find("right")]) select.replaceChildren(...tiles.map((t) => html("option", { value: t.dataset.variant }, `${short(t.querySelector("b").textContent, 44)}${view === "attention" ? `, ${t.querySelector("figcaption small").textContent}` : ""}`)));
    const own = button.closest(".tile").dataset.variant;
    const first = tiles.find((t) => t.dataset.variant === String(base.index)) || tiles[0];
    find("left").value = first.dataset.variant === own && tiles.length > 1 ? tiles.find((t) => t.dataset.variant !== own).dataset.variant : first.dataset.variant;
    find("right").value = own;
    slider.value = 50;
    wipe(); pair();
    find("pair-title").textContent = scenes[current].dataset.name;
    dialog.showModal();
  });
  show();
}
