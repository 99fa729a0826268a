"""Broken and odd labels of the three formats: only the bad box is lost, and every count in the report is exact."""

from __future__ import annotations

import codecs
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from os import mkfifo
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.effort import too_long
from tests.faults.tally import Tally, bytes_changed, snapshot
from utils.data.config import load_data
from utils.data.doctor.diagnosis import diagnose
from utils.data.index import Index
from utils.data.labels.label_report import KINDS
from utils.data.scan import load_index
from utils.errors import UserError
from utils.log import LOG

GOOD = "0 0.5 0.5 0.25 0.5"
OTHER = "1 0.25 0.25 0.125 0.125"
SECONDS = 60.0
"""For a million rows, on a machine that does other things too."""


@dataclass
class Case:
    """A label file and what is to be kept and said of it.

    Attributes:
        make: the content, or what makes the file.
        boxes: rows kept.
        kinds: findings by kind.
        noted: findings that cost nothing.
    """

    name: str
    make: str | bytes | Callable[[Path], object]
    boxes: int
    kinds: dict[str, int] = field(default_factory=dict)
    noted: int = 0


def run(folder: Path, *, short: bool) -> Tally:
    """Read each label file beside an image and a good one, then all of them at once."""
    tally = Tally("labels")
    LOG.setLevel(logging.CRITICAL)
    for kind, cases in (("txt", yolo_cases()), ("xml", voc_cases())):
        for case in cases:
            _files(folder / f"{kind}-{case.name}", kind, [case], tally)
        _files(folder / f"{kind}-all", kind, cases, tally)
    for name, change, expected in coco_cases():
        _coco(folder / f"json-{name}", name, change, expected, tally)
    for name, document in coco_refusals():
        _refused(folder / f"json-{name}", name, document, tally)
    _many_rows(folder / "many", 20_000 if short else 1_000_000, tally)
    return tally


def _row(text: str) -> str:
    return f"{GOOD}\n{text}\n{OTHER}\n"


def yolo_cases() -> list[Case]:
    """YOLO's label files; most have one odd row between two good ones."""
    dropped = {
        "columns": {
            "missing-column": "0 .5 .5 .1",
            "extra-column": "0 .5 .5 .1 .1 .9",
            "one-column": "0",
            "half-point": "0 .1 .1 .2 .2 .3 .3 .4",
        },
        "number": {
            "word": "dog .5 .5 .1 .1",
            "decimal-commas": "0 0,5 0,5 0,1 0,1",
            "hexadecimal": "0 0x1 .5 .1 .1",
            "underscore": "0 .5 .5 .1 0.1_0",
        },
        "class": {
            "class-high": "2 .5 .5 .1 .1",
            "class-fraction": "0.5 .5 .5 .1 .1",
            "class-negative": "-1 .5 .5 .1 .1",
            "class-nan": "nan .5 .5 .1 .1",
        },
        "range": {
            "nan": "0 nan .5 .1 .1",
            "inf": "0 .5 inf .1 .1",
            "negative": "0 -.2 .5 .1 .1",
            "above-one": "0 1.5 .5 .1 .1",
            "pixels": "0 320 240 10 10",
        },
        "area": {"zero-size": "0 .5 .5 0 0", "negative-zero": "0 .5 .5 -0.0 .1", "flat-polygon": "0 .1 .1 .2 .1 .3 .1"},
        "repetition": {"twice": GOOD, "twice-in-other-words": "0.0 5e-1 .50 0.25 .5"},
    }
    cases = [Case(name, _row(row), 2, {kind: 1}) for kind, rows in dropped.items() for name, row in rows.items()]
    cases += [Case("all-commas", _row("0,.5,.5,.1,.1"), 2, {"columns": 1}), Case("nul", _row("0 .5 .5 .1 \0"), 2, {"number": 1})]
    kept = {
        "exponent": "0 1e-1 5E-1 1e-1 +.1",
        "polygon": "0 .1 .1 .9 .1 .5 .9",
        "rounding": "0 1.0005 .5 .1 .1",
        "remark": "0 .1 .1 .1 .1 # a remark",
        "tabs": "0\t.1\t.1\t.1\t.1",
    }
    cases += [Case(name, _row(row), 3) for name, row in kept.items()]
    text = _row("0 .1 .1 .2 .2")
    cases += [
        Case("bom", codecs.BOM_UTF8 + text.encode(), 3),
        Case("utf-16", text.encode("utf-16"), 3),
        Case("utf-16-without-mark", text.encode("utf-16-le"), 3),
        Case("crlf", text.replace("\n", "\r\n"), 3),
        Case("cr", text.replace("\n", "\r"), 3),
        Case("blank-lines", text.replace("\n", "\n \n\n"), 3),
        Case("no-last-newline", text.strip(), 3),
        Case("latin-1", _row("\xe9t\xe9 .5 .5 .1 .1").encode("latin-1"), 2, {"number": 1}),
        Case("only-remarks", "# nothing\n  # here\n", 0),
        Case("empty", b"", 0),
        Case("blank", b" \r\n\t\n", 0),
        Case("binary", bytes(range(128, 256)) * 8, 0, {"columns": 1}),
        Case("folder", Path.mkdir, 0, {"file": 1}),
        Case("pipe", mkfifo, 0, {"file": 1}),
        Case("dangling", lambda path: path.symlink_to("nowhere"), 0, {"file": 1}),
        Case("link-loop", lambda path: path.symlink_to(path.name), 0, {"file": 1}),
        Case("device", lambda path: path.symlink_to("/dev/zero"), 0, {"file": 1}),
        Case("sparse", _sparse, 0, {"file": 1}),
        Case("long-row", _row("0 " + "x" * 1_000_000 + " .5 .5 .1"), 2, {"number": 1}),
        Case("long-number", _row("0 0." + "1" * 100_000 + " .5 .5 .1"), 3),
        Case(
            "everything",
            "\n".join([GOOD, *(row for rows in dropped.values() for row in rows.values())]),
            1,
            {k: len(v) for k, v in dropped.items()},
        ),
    ]
    return cases


def _sparse(path: Path) -> None:
    target = path.parents[2] / "sparse"
    with target.open("wb") as file:
        file.truncate(1 << 40)
    path.symlink_to(target)


def _xml(*objects: str, head: str = "<size><width>80</width><height>60</height></size>", start: str = "") -> str:
    return f"{start}<annotation>{head}{''.join(objects)}</annotation>"


def _object(name: str = "a", box: tuple[object, ...] = (11, 11, 40, 40), extra: str = "") -> str:
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False))
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def voc_cases() -> list[Case]:
    """VOC's XML files."""
    good, other = _object(), _object("b", (1, 1, 20, 20))
    bad = {
        "class": {"unknown-name": _object("zebra"), "no-name": _object(""), "markup-name": _object("&lt;script&gt;")},
        "number": {
            "no-box": "<object><name>a</name></object>",
            "three-sides": _object("a", (1, 2, 3)),
            "words": _object("a", ("x", 1, 2, 3)),
        },
        "area": {
            "swapped": _object("a", (40, 40, 11, 11)),
            "outside": _object("a", (500, 500, 600, 600)),
            "nan": _object("a", ("nan", 1, 20, 20)),
        },
        "repetition": {"twice": good},
        "difficult": {"difficult": _object("a", (5, 5, 9, 9), "<difficult>1</difficult>")},
    }
    cases = [Case(name, _xml(good, item, other), 2, {kind: 1}) for kind, items in bad.items() for name, item in items.items()]
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + "]>"
    )
    outside = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    cases += [
        Case("entity-bomb", _xml(_object("&i;"), start=bomb), 0, {"file": 1}),
        Case("entity-bomb-utf-16", _xml(_object("&i;"), start=bomb).encode("utf-16"), 0, {"file": 1}),
        Case("outer-entity", _xml(_object("&a;"), start=outside), 0, {"file": 1}),
        Case("no-xml", "0 .5 .5 .1 .1", 0, {"file": 1}),
        Case("cut", _xml(good, other)[:-40], 0, {"file": 1}),
        Case("empty", "", 0, {"file": 1}),
        Case("deep", "<annotation>" + "<a>" * 100_000, 0, {"file": 1}),
        Case("unknown-encoding", '<?xml version="1.0" encoding="no-such"?>' + _xml(good), 0, {"file": 1}),
        Case("other-root", f"<html>{good}</html>", 1),
        Case("no-size", _xml(good, other, head=""), 2),
        Case("zero-size", _xml(good, other, head="<size><width>0</width><height>0</height></size>"), 2),
        Case("wrong-size", _xml(good, head="<size><width>60</width><height>80</height></size>"), 1, {"frame": 1}, noted=1),
        Case("mad-size", _xml(good, head="<size><width>1e999</width><height>x</height></size>"), 1),
        Case("over-the-edge", _xml(_object("a", (-50, -50, 1000, 1000))), 1),
        Case("bom", codecs.BOM_UTF8 + _xml(good).encode(), 1),
        Case("latin-1", ('<?xml version="1.0" encoding="latin-1"?>' + _xml(good, "<!-- \xe9 -->")).encode("latin-1"), 1),
        Case("utf-16", _xml(good).encode("utf-16"), 1),
        Case("folder", Path.mkdir, 0, {"file": 1}),
    ]
    return cases


def _write(path: Path, make: str | bytes | Callable[[Path], object]) -> None:
    if isinstance(make, str):
        make = make.encode()
    if isinstance(make, bytes):
        path.write_bytes(make)
    else:
        make(path)


def _files(root: Path, kind: str, cases: list[Case], tally: Tally) -> None:
    """A dataset of one image for each case, and one with a good label."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    good = _xml(_object()) if kind == "xml" else GOOD
    everything = [Case("good", good, 1), *cases]
    for case in everything:
        Image.new("RGB", (80, 60)).save(root / "images" / f"{case.name}.png")
        _write(root / "labels" / f"{case.name}.{kind}", case.make)
    (root / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [a, b]\n")
    before = snapshot(root)
    index = load_index(load_data(root / "data.yaml"), "train", cache_dir=root.parent / "own-cache")
    boxes = {path.stem: len(index.annotations_of(i)) for i, path in enumerate(index.paths)}
    expected = {case.name: case.boxes for case in everything}
    kinds: dict[str, int] = {}
    for case in cases:
        for name, count in case.kinds.items():
            kinds[name] = kinds.get(name, 0) + count
    exact = _report(len(everything), sum(expected.values()), sum(kinds.values()) - sum(case.noted for case in cases), kinds)
    found = _report(index.report.images, index.report.boxes, index.report.dropped, index.report.kinds)
    wrong = {name: (boxes.get(name), count) for name, count in expected.items() if boxes.get(name) != count}
    tally.fault(not wrong and found == exact, f"{root.name}: boxes found and expected {wrong}; report {found}, expected {exact}")
    if len(cases) > 1:
        groups = diagnose(root / "data.yaml", imgsz=64, distance=10).groups
        said = {kind: sum(group.count for group in groups if (group.kind, group.title) == (kind, KINDS[kind])) for kind in kinds}
        tally.fault(
            {kind: count for kind, count in kinds.items() if count} == said, f"{root.name}: the doctor counts {said}, expected {kinds}"
        )
    tally.bytes_changed += bytes_changed(before, root)


def _report(images: int, boxes: int, dropped: int, kinds: dict[str, int]) -> dict[str, object]:
    return {"images": images, "boxes": boxes, "dropped": dropped, "kinds": {kind: count for kind, count in kinds.items() if count}}


Document = dict[str, Any]


def _document() -> Document:
    images = [{"id": n, "file_name": f"{n}.png", "width": 80, "height": 60} for n in (1, 2)]
    annotations = [{"id": n, "image_id": n, "category_id": 7, "bbox": [8, 6, 40, 30], "area": 600, "iscrowd": 0} for n in (1, 2)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}]}


def _with(**change: object) -> Callable[[Document], None]:
    """Append an annotation that differs from a good one."""
    return lambda document: document["annotations"].append({**document["annotations"][0], "id": 99, **change})


def _without(key: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        entry = dict(document["annotations"][0], id=99)
        del entry[key]
        document["annotations"].append(entry)

    return change


def coco_cases() -> list[tuple[str, Callable[[Document], None], dict[str, object]]]:
    """COCO files with one thing wrong: name, change, and the report, which else has two images and two boxes."""
    lost: dict[str, dict[str, Callable[[Document], None]]] = {
        "number": {
            "no-bbox": _without("bbox"),
            "short-bbox": _with(bbox=[1, 2, 3]),
            "text-bbox": _with(bbox=["1px", 2, 3, 4]),
            "nan-bbox": _with(bbox=[float("nan"), 2, 3, 4]),
            "infinite-bbox": _with(bbox=[1, 2, float("inf"), 4]),
            "true-bbox": _with(bbox=[True, 2, 3, 4]),
            "endless-number": _with(bbox=[10**1000, 2, 3, 4]),
        },
        "area": {"negative-width": _with(bbox=[20, 20, -5, 5]), "zero-height": _with(bbox=[20, 20, 5, 0])},
        "range": {"outside": _with(bbox=[500, 500, 9, 9]), "far-outside": _with(bbox=[1e300, 0, 1e300, 9])},
        "class": {
            "unknown-category": _with(category_id=8),
            "text-category": _with(category_id="7x"),
            "no-category": _without("category_id"),
        },
        "entry": {
            "unknown-image": _with(image_id=3),
            "list-as-image": _with(image_id=[1]),
            "no-image-id": _without("image_id"),
            "annotation-is-text": lambda document: document["annotations"].append("box"),
            "image-is-number": lambda document: document["images"].append(3),
            "image-without-name": lambda document: document["images"].append({"id": 3}),
            "image-id-twice": lambda document: document["images"].append({"id": 1, "file_name": "other.png"}),
            "image-file-twice": lambda document: document["images"].append({"id": 3, "file_name": "1.png"}),
        },
    }
    plain = _report(2, 2, 0, {})
    cases = [(name, change, _report(2, 2, 1, {kind: 1})) for kind, changes in lost.items() for name, change in changes.items()]
    more = _report(2, 3, 0, {})
    return [
        *cases,
        ("lying-rle", _with(segmentation={"counts": [10**9, 5], "size": [1, 1]}), more),
        ("text-rle", _with(segmentation={"counts": "\x00" * 50, "size": [-1, 10**9]}, iscrowd=0), more),
        ("odd-polygon", _with(segmentation=[[1, 2, 3], "x", [float("nan")] * 6]), more),
        ("lying-area", _with(area=-5), more),
        ("text-area", _with(area="big"), more),
        ("crowd", _with(iscrowd=1, segmentation={"counts": [1], "size": [60, 80]}), plain),
        ("no-declared-size", lambda document: [image.pop("width") for image in document["images"]], plain),
        ("text-size", lambda document: [image.update(width="wide") for image in document["images"]], plain),
        ("negative-size", lambda document: [image.update(width=-80, height=1e300) for image in document["images"]], plain),
        ("image-missing", lambda document: document["images"].append({"id": 3, "file_name": "gone.png"}), _report(2, 2, 0, {"image": 1})),
        (
            "image-elsewhere",
            lambda document: document["images"].append({"id": 3, "file_name": "../../nowhere/x.png"}),
            _report(2, 2, 0, {"image": 1}),
        ),
        ("nul-in-name", lambda document: document["images"].append({"id": 3, "file_name": "a\0.png"}), _report(2, 2, 0, {"image": 1})),
        ("no-annotations", lambda document: document.pop("annotations"), _report(2, 0, 0, {})),
    ]


def coco_refusals() -> list[tuple[str, bytes]]:
    """Files that are no COCO ground truth at all."""
    twice = {**_document(), "categories": [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]}
    return [
        ("cut", json.dumps(_document()).encode()[:-60]),
        ("list", b"[]"),
        ("deep", b"[" * 1_000_000),
        ("long-integer", b'{"images": [' + b"9" * 10_000 + b"]}"),
        ("category-twice", json.dumps(twice).encode()),
        ("utf-8-broken", b'{"images": ["\xff\xfe"]}'),
    ]


def _json_set(root: Path, content: bytes) -> Path:
    (root / "images").mkdir(parents=True)
    for number in (1, 2):
        Image.new("RGB", (80, 60)).save(root / "images" / f"{number}.png")
    (root / "instances.json").write_bytes(content)
    (root / "data.yaml").write_text("path: .\ntrain: instances.json\nval: instances.json\nnames: [a, b]\n")
    return root / "data.yaml"


def _load(root: Path, source: Path) -> Index:
    return load_index(load_data(source), "train", cache_dir=root.parent / "own-cache")


def _coco(root: Path, name: str, change: Callable[[Document], None], expected: dict[str, object], tally: Tally) -> None:
    document = _document()
    change(document)
    source = _json_set(root, _dumped(document))
    before = snapshot(root)
    report = _load(root, source).report
    found = _report(report.images, report.boxes, report.dropped, report.kinds)
    tally.fault(found == expected, f"JSON, {name}: report {found}, expected {expected}")
    tally.bytes_changed += bytes_changed(before, root)


def _dumped(document: Document) -> bytes:
    return json.dumps(document).encode()


def _refused(root: Path, name: str, content: bytes, tally: Tally) -> None:
    source = _json_set(root, content)
    before = snapshot(root)
    try:
        _load(root, source)
    except UserError as error:
        tally.fault("instances.json" in str(error) and len(str(error)) < 2000, f"JSON, {name}: {error!s:.200}")
    else:
        tally.fault(False, f"JSON, {name}: accepted")
    tally.bytes_changed += bytes_changed(before, root)


def _many_rows(root: Path, count: int, tally: Tally) -> None:
    """Label files of very many rows: all good, one bad, all bad, all the same."""
    centres = np.random.default_rng(0).random((count, 2)).tolist()
    good = "\n".join(f"0 {x:.9f} {y:.9f} 0.1 0.1" for x, y in centres)
    bad = "\n".join(f"9 {x:.9f} {y:.9f} 0.1 0.1" for x, y in centres)
    cases = [
        Case("all-good", good, count),
        Case("one-bad", f"{good}\n0 .5 .5", count, {"columns": 1}),
        Case("all-bad", bad, 0, {"class": count}),
        Case("all-the-same", f"{GOOD}\n" * count, 1, {"repetition": count - 1}),
    ]
    for case in cases:
        start = time.process_time()
        _files(root / case.name, "txt", [case], tally)
        taken = time.process_time() - start
        tally.fault(not too_long(taken, SECONDS), f"{count} rows, {case.name}: took {taken:.0f} s")
