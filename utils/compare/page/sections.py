"""The static parts of report.html: verdicts, notes, changes, protocol and pictures. Untrusted text is escaped here."""

from __future__ import annotations

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from utils.compare.page import sentences as words
from utils.compare.page.escape import html
from utils.compare.page.gallery_types import VIEWS, Gallery, GalleryScene, Picture
from utils.compare.page.report_data import TONES, ReportData
from utils.log import counted


def chip(word: str) -> str:
    """A verdict in its colour."""
    return f'<span class="chip {TONES.get(word, "open")}">{html(word)}</span>'


def verdict(data: ReportData) -> str:
    """A line for each variant with its verdict."""
    rows = [
        f"<li>{chip(v['word'])}"
        f"<p><b>{html(v['name'])}</b>: {html(words.finding(v, data))}<small>{html(words.cost_ratios(v))}</small></p></li>"
        for v in data["variants"]
        if not v["baseline"]
    ]
    return f'<ul class="findings">{"".join(rows)}</ul>'


def notes(lines: Sequence[str]) -> str:
    """A box with the limitations of the study, if any."""
    if not lines:
        return ""
    rows = "".join(f"<li>{html(line)}</li>" for line in lines)
    few = f"<ul>{rows}</ul>" if len(lines) <= 6 else f"<details><summary>{len(lines)} notes</summary><ul>{rows}</ul></details>"
    return f'<aside class="warning" aria-labelledby="notes-title"><h2 id="notes-title">Limitations</h2>{few}</aside>'


def changes(data: ReportData) -> str:
    """The edits of each variant."""
    parts = []
    for v in data["variants"]:
        body = f"<ul>{''.join(f'<li><code>{html(edit)}</code></li>' for edit in v['edits'])}</ul>"
        if v["baseline"]:
            body = '<p class="small">The baseline of the comparison.</p>'
        parts.append(f'<article class="change"><h3>{html(v["name"])}</h3><p class="small">{html(v["cfg"])}</p>{body}</article>')
    return f'<div class="changes">{"".join(parts)}</div>'


def protocol(command: str, rows: Iterable[tuple[str, str]], tables: Mapping[str, Iterable[tuple[str, str]]]) -> str:
    """The command line, the plan, and collapsed longer lists."""
    parts = [f"<pre><code>{html(command)}</code></pre>", _list(rows)]
    parts += [f"<details><summary>{html(title)}</summary>{_list(content)}</details>" for title, content in tables.items()]
    return "".join(parts)


def _list(rows: Iterable[tuple[str, str]]) -> str:
    return '<dl class="protocol">' + "".join(f"<dt>{html(k)}</dt><dd>{html(v)}</dd>" for k, v in rows) + "</dl>"


def gallery(shown: Gallery, data: ReportData) -> str:
    """The image section: controls, a scene for each image, and the dialog that overlays two pictures."""
    if not shown.scenes:
        return ""
    drawn = {p.view for scene in shown.scenes for pictures in scene.pictures.values() for p in pictures if p.jpeg} | {"boxes"}
    views = "".join(
        f'<label><input type="radio" name="view" value="{view}"{" checked" if view == "boxes" else ""}><span>{title}</span></label>'
        for view, title in VIEWS.items()
        if view in drawn
    )
    scenes = "".join(_scene(scene, number, data) for number, scene in enumerate(shown.scenes))
    return f"""<section id="gallery" aria-labelledby="gallery-title">
<h2 id="gallery-title">What each variant sees</h2>
<p class="lead">Images of the {html(data["measured"])} split, in the runs with seed {shown.seed}. LayerCAM shows which pixels contribute
to the score of one object, the same for all variants; attention maps are computed by the attention blocks themselves.
Click a picture to overlay it on another one.</p>
{_energy_table(shown, data)}
<div class="controls" id="gallery-controls" hidden>
<fieldset class="segments" id="views"><legend>Show</legend>{views}</fieldset>
<label>Image <select id="scene"></select></label>
<span class="steps"><button type="button" id="before" aria-label="Previous image">←</button>
<button type="button" id="after" aria-label="Next image">→</button>
<output id="scene-count" aria-live="polite"></output></span>
</div>
{scenes}
{_DIALOG}
</section>"""


_DIALOG = """<dialog id="pair" aria-labelledby="pair-title">
<div class="dialog-head"><h3 id="pair-title"></h3><button type="button" class="quiet" id="close">Close</button></div>
<div class="wipe"><img alt=""><img alt=""></div>
<input type="range" id="wipe" min="0" max="100" value="50" aria-label="Boundary between the left and the right picture, in per cent">
<div class="controls ends"><label>Left <select id="left"></select></label><label>Right <select id="right"></select></label></div>
</dialog>"""


def _scene(scene: GalleryScene, number: int, data: ReportData) -> str:
    truth = (
        f'<figure class="tile">{_image(scene.truth, scene, f"{scene.name}: ground truth")}'
        f"<figcaption><b>Ground truth</b><small>{html(scene.truth_caption)}</small></figcaption></figure>"
    )
    tiles = "".join(_tiles(scene.pictures.get(v["name"], []), scene, v) for v in data["variants"])
    hidden = " hidden" if number else ""
    return (
        f'<article class="scene" data-name="{html(scene.name)}"{hidden}><h3>{html(scene.name)} <small>{html(scene.why)}</small></h3>'
        f'<div class="tiles">{truth}{tiles}</div></article>'
    )


def _tiles(pictures: Sequence[Picture], scene: GalleryScene, variant: ReportData) -> str:
    numbers: Counter[str] = Counter()
    out = []
    for picture in pictures:
        alt = f"{scene.name}: {VIEWS[picture.view].lower()} of {variant['name']}"
        shown, label = '<div class="nothing">nothing to show</div>', html(f"{alt}; overlay it on another picture")
        if picture.jpeg:
            shown = f'<button type="button" aria-label="{label}">{_image(picture.jpeg, scene, alt)}</button>'
        number = numbers[picture.view]  # of this view
        numbers[picture.view] += 1
        key = f"{variant['index']}.{number}" if number else str(variant["index"])
        hidden = " hidden" if picture.view != "boxes" else ""
        out.append(
            f'<figure class="tile" data-view="{picture.view}" data-variant="{key}"{hidden}>{shown}'
            f"<figcaption><b>{html(variant['name'])}</b><small>{html(picture.caption)}</small></figcaption></figure>"
        )
    return "".join(out)


def _image(jpeg: bytes, scene: GalleryScene, alt: str) -> str:
    height, width = scene.size
    uri = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    return f'<img src="{uri}" alt="{html(alt)}" width="{width}" height="{height}" decoding="async">'


def _energy_table(shown: Gallery, data: ReportData) -> str:
    """The table of LayerCAM energy inside ground-truth boxes."""
    if not shown.energy:
        return ""
    count, seeds = (max(getattr(f, name) for f in shown.energy.values()) for name in ("images", "seeds"))
    rows = ""
    for v in data["variants"]:
        if energy := shown.energy.get(v["name"]):
            meter = "" if math.isnan(energy.share) else f'<meter min="0" max="1" value="{energy.share:.3f}"></meter>'
            gap = energy.difference
            difference = f"{words.signed(gap.mean, 1)} ({words.ends((gap.low, gap.high), 1)})" if gap else words.NOTHING
            rows += f'<tr><th scope="row">{html(v["name"])}</th><td>{meter}{_percent(energy.share)}</td><td>{difference}</td></tr>'
    return (
        '<details open><summary>LayerCAM energy inside ground-truth boxes</summary><div class="scroll focus-table"><table>'
        '<thead><tr><th scope="col">Variant</th><th scope="col">Energy inside boxes</th>'
        f'<th scope="col">Difference, {html(data["level"])} CI</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="small">Mean over {counted(seeds, "seed")} and the {counted(count, "image")} of the measured split on which '
        "all variants have energy, of those examined; in each, the largest object is explained, and the energy inside the boxes of its "
        f"class is counted. Differences in percentage points, their intervals for seeds and images together and simultaneous over the "
        f"variants. A uniform map would have {_percent(shown.uniform_share)}.</p></details>"
    )


def _percent(share: float) -> str:
    return words.NOTHING if math.isnan(share) else f"{100 * share:.1f} %"
