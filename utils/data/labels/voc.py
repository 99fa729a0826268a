"""Pascal VOC's label files: one XML an image, boxes in pixels, classes by name.

VOC counts pixels from 1 and includes the last one, so a box covers xmin - 1 to xmax of the image's width. Objects marked
`difficult` are left out, as YOLOv5's conversion does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from utils.data.labels.label_report import Findings, Labels
from utils.errors import nearest

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path, content: bytes, classes: Mapping[str, int], size: tuple[int, int]) -> Labels:
    """Read the `content` of the XML file `path`.

    Args:
        classes: class number of each name.
        size: (height, width) of the image file. It counts where the XML's own is missing, 0, or cannot be the frame of the boxes.
    """
    findings = Findings(path)
    root = _parse(content, findings)
    boxes, numbers = [], []
    for at, item in enumerate(() if root is None else root.findall("object"), 1):
        box, name, kind, fault = _object(item)
        if not fault and name not in classes:
            kind, fault = "class", f"the data set has no class {name!r}{nearest(name, classes)}"
        if fault:
            findings.drop(kind, f"object {at}: {fault}")
            continue
        boxes.append(box)
        numbers.append(classes[name])
    if root is None or not boxes:
        return Labels.of(findings)
    xyxy = np.array(boxes) - np.array([1.0, 1.0, 0.0, 0.0])
    frame = choose_frame(_declared(root), size, (float(xyxy[:, 3].max()), float(xyxy[:, 2].max())), findings)
    return _labels(xyxy, np.array(numbers, np.float64), frame, findings)


def class_names(content: bytes) -> set[str]:
    """Return the names of the objects of an XML label file; none when it cannot be read."""
    root = _parse(content, Findings(""))
    return set() if root is None else {name for item in root.findall("object") if (name := (item.findtext("name") or "").strip())}


def choose_frame(declared: tuple[int, int], actual: tuple[int, int], reach: tuple[float, float], findings: Findings) -> tuple[int, int]:
    """Return the (height, width) that pixel boxes refer to, when a label file and its image disagree.

    An image scaled after it was labelled keeps its aspect, and the boxes stay inside the declared size; then that is it. In
    every other case the image is right. `reach` is how far down and right the boxes go.
    """
    if declared == actual or min(declared) <= 0:
        return actual
    findings.note("frame", f"the label file says {declared[1]} x {declared[0]} pixels, the image has {actual[1]} x {actual[0]}")
    scaled = abs(declared[0] / declared[1] / (actual[0] / actual[1]) - 1) < 0.02
    return declared if scaled and reach[0] <= declared[0] + 1 and reach[1] <= declared[1] + 1 else actual


def _parse(content: bytes, findings: Findings) -> ElementTree.Element | None:
    # No label file has a document type; without one there are no entities to expand (CWE-776). The zeros are UTF-16's.
    if b"<!doctype" in content.replace(b"\0", b"").lower():
        findings.drop("file", "refused: it holds a document type declaration, which no label file needs")
        return None
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - see above
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        findings.drop("file", f"not valid XML ({error})")
        return None
    if root.find("object") is None and root.tag != "annotation":
        findings.note("file", f"no VOC annotation: its root is <{root.tag}>")
    return root


def _object(item: ElementTree.Element) -> tuple[list[float], str, str, str]:
    """Return the box (pixels as written), the class name, and kind and description of what is wrong ('' when it can be used)."""
    name = (item.findtext("name") or "").strip()
    if (item.findtext("difficult") or "0").strip() not in ("0", "false", "False", "Unspecified", ""):
        return [], name, "difficult", "marked difficult"
    try:
        box = [float(item.findtext(f"bndbox/{side}") or "") for side in _SIDES]
    except ValueError:
        return [], name, "number", f"no bndbox with the numbers {', '.join(_SIDES)}"
    if not all(map(math.isfinite, box)) or box[2] < box[0] or box[3] < box[1]:
        return [], name, "area", f"the box {box} ends before it begins"
    return box, name, "", ""


def _declared(root: ElementTree.Element) -> tuple[int, int]:
    """(height, width) of the XML's <size>, (0, 0) when it has none that can be read."""
    try:
        return int(float(root.findtext("size/height") or 0)), int(float(root.findtext("size/width") or 0))
    except (ValueError, OverflowError):
        return 0, 0


def _labels(xyxy: np.ndarray, numbers: np.ndarray, frame: tuple[int, int], findings: Findings) -> Labels:
    """Clip (k, 4) pixel boxes to the frame, drop what is not inside it and what is there twice."""
    share = np.clip(xyxy / np.array([frame[1], frame[0]] * 2), 0, 1)
    low, high = share[:, :2], share[:, 2:]
    rows = np.column_stack((numbers, (low + high) / 2, high - low))
    seen: set[tuple[float, ...]] = set()
    keep = []
    for i, row in enumerate(map(tuple, rows.tolist())):
        if min(row[3:]) <= 0:
            findings.drop("area", f"a box without area inside the image: {xyxy[i].tolist()}")
            continue
        if row in seen:
            findings.drop("repetition", f"a repetition of an earlier object: {xyxy[i].tolist()}")
            continue
        seen.add(row)
        keep.append(i)
    return Labels.of(findings, rows[keep])
