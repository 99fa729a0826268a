"""The parts of report.html that are written once: verdict, notes, changes, protocol, pictures. Every text of strangers is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from utils.compare.page import sentences as words
from utils.compare.page.escape import html
from utils.compare.page.gallery_types import VIEWS, Gallery, GalleryScene, Picture, data_uri
from utils.compare.page.report_data import ReportData


def verdict(data: ReportData) -> str:
    """A line for each variant with the chip of its verdict."""
    return f'<ul class="findings">{"".join(_finding(v, data) for v in data["variants"] if not v["baseline"])}</ul>'


def _finding(variant: ReportData, data: ReportData) -> str:
    chip = f'<span class="chip {html(variant["tone"])}">{html(variant["word"])}</span>'
    text = f"<b>{html(variant['name'])}</b>: {html(words.finding(variant, data))}<small>{html(words.price(variant))}</small>"
    return f"<li>{chip}<p>{text}</p></li>"


def notes(lines: Sequence[str]) -> str:
    """A box with what limits the study; nothing where nothing does."""
    if not lines:
        return ""
    rows = "".join(f"<li>{html(line)}</li>" for line in lines)
    few = f"<ul>{rows}</ul>" if len(lines) <= 6 else f"<details><summary>{len(lines)} notes</summary><ul>{rows}</ul></details>"
    return f'<aside class="warning" aria-labelledby="notes-title"><h2 id="notes-title">To be kept in mind</h2>{few}</aside>'


def changes(data: ReportData) -> str:
    """For each variant the lines that it changes against its base."""
    return f'<div class="changes">{"".join(_change(v) for v in data["variants"])}</div>'


def _change(variant: ReportData) -> str:
    if variant["edits"]:
        lines = "".join(f"<li><code>{html(edit)}</code></li>" for edit in variant["edits"])
        body = f"<ul>{lines}</ul>"
    elif variant["baseline"]:
        body = '<p class="small">The base of the comparison.</p>'
    elif variant["control_of"]:
        body = f'<p class="small">The baseline, made as large as {html(variant["control_of"])}.</p>'
    else:
        body = '<p class="small">A model file of its own; it lists no changes.</p>'
    return f'<article class="change"><h3>{html(variant["name"])}</h3><p class="small">{html(variant["cfg"])}</p>{body}</article>'


def protocol(command: str, rows: Iterable[tuple[str, str]], tables: Mapping[str, Iterable[tuple[str, str]]]) -> str:
    """The command line, a list of the plan, and longer lists that open on demand."""
    parts = [f"<pre><code>{html(command)}</code></pre>", _list(rows)]
    parts += [f"<details><summary>{html(title)}</summary>{_list(content)}</details>" for title, content in tables.items()]
    return "".join(parts)


def _list(rows: Iterable[tuple[str, str]]) -> str:
    return '<dl class="protocol">' + "".join(f"<dt>{html(k)}</dt><dd>{html(v)}</dd>" for k, v in rows) + "</dl>"


def gallery(shown: Gallery, data: ReportData) -> str:
    """The section of images: controls, a scene for each image, and the dialog that wipes between two variants."""
    if not shown.scenes:
        return ""
    scenes = "".join(_scene(scene, number, data) for number, scene in enumerate(shown.scenes))
    return f"""<section id="gallery" aria-labelledby="gallery-title">
<h2 id="gallery-title">What each variant sees</h2>
<p class="lead">Images of the {html(data["measured"])} split, through the runs of seed {shown.seed}. LayerCAM shows which pixels
the score of one object, the same for all variants, rests on; attention maps are what the blocks themselves compute.
Choose a picture to lay it over another one.</p>
{_focus(shown, data)}
<div class="controls" id="gallery-controls" hidden>
<fieldset class="segments" id="views"><legend>Show</legend>{_views(shown)}</fieldset>
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
<input type="range" id="wipe" min="0" max="100" value="50" aria-label="Where the left picture ends and the right one begins, in per cent">
<div class="controls ends"><label>Left <select id="left"></select></label><label>Right <select id="right"></select></label></div>
</dialog>"""


def _views(shown: Gallery) -> str:
    there = {p.view for scene in shown.scenes for pictures in scene.pictures.values() for p in pictures if p.jpeg}
    return "".join(
        f'<label><input type="radio" name="view" value="{view}"{" checked" if view == "boxes" else ""}><span>{title}</span></label>'
        for view, title in VIEWS.items()
        if view in there or view == "boxes"
    )


def _scene(scene: GalleryScene, number: int, data: ReportData) -> str:
    truth = (
        f'<figure class="tile">{_image(scene.truth, scene, f"{scene.name}: the true boxes")}'
        f"<figcaption><b>Truth</b><small>{html(scene.truth_caption)}</small></figcaption></figure>"
    )
    tiles = "".join(_tiles(scene.pictures.get(v["name"], []), scene, v) for v in data["variants"])
    hidden = " hidden" if number else ""
    return (
        f'<article class="scene" data-name="{html(scene.name)}"{hidden}><h3>{html(scene.name)} <small>{html(scene.why)}</small></h3>'
        f'<div class="tiles">{truth}{tiles}</div></article>'
    )


def _tiles(pictures: Sequence[Picture], scene: GalleryScene, variant: ReportData) -> str:
    numbers = dict.fromkeys(VIEWS, -1)
    out = []
    for picture in pictures:
        numbers[picture.view] += 1
        out.append(_tile(picture, scene, variant, numbers[picture.view]))
    return "".join(out)


def _tile(picture: Picture, scene: GalleryScene, variant: ReportData, number: int) -> str:
    """A variant's picture; `number` tells those of one view apart."""
    name = variant["name"]
    alt = f"{scene.name}: {VIEWS[picture.view].lower()} of {name}"
    shown = (
        f'<button type="button" aria-label="{html(alt)}; lay it over another one">{_image(picture.jpeg, scene, alt)}</button>'
        if picture.jpeg
        else '<div class="nothing">nothing to show</div>'
    )
    key = f"{variant['index']}.{number}" if number else str(variant["index"])
    hidden = " hidden" if picture.view != "boxes" else ""
    return (
        f'<figure class="tile" data-view="{picture.view}" data-variant="{key}"{hidden}>{shown}'
        f"<figcaption><b>{html(name)}</b><small>{html(picture.caption)}</small></figcaption></figure>"
    )


def _image(jpeg: bytes, scene: GalleryScene, alt: str) -> str:
    height, width = scene.size
    return f'<img src="{data_uri(jpeg)}" alt="{html(alt)}" width="{width}" height="{height}" decoding="async">'


def _focus(shown: Gallery, data: ReportData) -> str:
    """The table of the energy inside true boxes."""
    if not shown.focus:
        return ""
    count = max(f.images for f in shown.focus.values())
    rows = "".join(
        f'<tr><th scope="row">{html(v["name"])}</th><td>{_meter(f.share)}{_percent(f.share)}</td><td>{f.images}</td></tr>'
        for v in data["variants"]
        if (f := shown.focus.get(v["name"]))
    )
    return (
        '<details open><summary>How much of the LayerCAM lies inside true boxes</summary><div class="scroll focus-table"><table>'
        '<thead><tr><th scope="col">Variant</th><th scope="col">Energy inside true boxes</th><th scope="col">Images</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f'<p class="small">Mean over {count} images of the measured split; of each the largest object is explained, and the energy inside '
        f"the boxes of its class counts. A map without any focus would have {_percent(shown.chance)}.</p></details>"
    )


def _meter(share: float) -> str:
    return "" if math.isnan(share) else f'<meter min="0" max="1" value="{share:.3f}"></meter>'


def _percent(share: float) -> str:
    return words.NOTHING if math.isnan(share) else f"{100 * share:.1f} %"
