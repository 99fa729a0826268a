"""Pascal VOC label files: one XML an image, boxes in pixels, classes by name.

VOC counts pixels from 1 and includes the last one, so a box covers xmin - 1 to xmax of the image's width. Objects marked
`difficult` are left out, as YOLOv5's conversion does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from utils.data.labels.frames import choose_frame
from utils.data.labels.label_report import FileFindings, ImageAnnotations
from utils.errors import nearest
from utils.files.encodings import decode_text

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path, content: bytes, classes: Mapping[str, int], size: tuple[int, int], orientation: int = 1) -> ImageAnnotations:
    """Read the `content` of the XML file `path`.

    Args:
        classes: class id of each name.
        size: (height, width) of the upright image, used where the XML's own is missing, 0, or does not fit the boxes.
        orientation: EXIF's, 1 to 8.
    """
    findings = FileFindings(path)
    root = _parse(content, findings)
    boxes, numbers = [], []
    for at, item in enumerate(() if root is None else root.findall("object"), 1):
        box, name, kind, fault = _read_object(item)
        if not fault and name not in classes:
            kind, fault = "class", f"the dataset has no class {name!r}{nearest(name, classes)}"
        if fault:
            findings.drop(kind, f"object {at}: {fault}")
            continue
        boxes.append(box)
        numbers.append(classes[name])
    if root is None or not boxes:
        return ImageAnnotations(findings)
    xyxy = np.array(boxes) - np.array([1.0, 1.0, 0.0, 0.0])
    try:
        declared = int(float(root.findtext("size/height") or 0)), int(float(root.findtext("size/width") or 0))
    except (ValueError, OverflowError):
        declared = 0, 0
    frame, stored = choose_frame(declared, size, orientation, (float(xyxy[:, 3].max()), float(xyxy[:, 2].max())), findings)
    clipped = np.clip(xyxy / np.array([frame[1], frame[0]] * 2), 0, 1)
    low, high = clipped[:, :2], clipped[:, 2:]
    annotations = np.column_stack((np.array(numbers, np.float64), (low + high) / 2, high - low))
    seen: set[tuple[float, ...]] = set()
    keep = []
    for i, annotation in enumerate(map(tuple, annotations.tolist())):
        if min(annotation[3:]) <= 0:
            findings.drop("area", f"a box without area inside the image: {xyxy[i].tolist()}")
        elif annotation in seen:
            findings.drop("repetition", f"a repetition of an earlier object: {xyxy[i].tolist()}")
        else:
            seen.add(annotation)
            keep.append(i)
    return ImageAnnotations(findings, annotations[keep], stored=stored)


def class_names(content: bytes) -> set[str]:
    """Return the class names of the objects of an XML label file; none when it cannot be read."""
    root = _parse(content, FileFindings(""))
    return set() if root is None else {name for item in root.findall("object") if (name := (item.findtext("name") or "").strip())}


def _parse(content: bytes, findings: FileFindings) -> ElementTree.Element | None:
    # No label file has a document type; without one there are no entities to expand (CWE-776). The zeros are UTF-16's.
    if b"<!doctype" in content.replace(b"\0", b"").lower():
        findings.drop("file", "refused: it has a document type declaration, which no label file needs")
        return None
    try:
        try:
            root = ElementTree.fromstring(content)  # noqa: S314 - see above
        except ElementTree.ParseError:
            if b"encoding=" in content[:200] or not content.strip():
                raise
            root = ElementTree.fromstring(decode_text(content)[0])  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        findings.drop("file", f"not valid XML ({error})")
        return None
    if root.find("object") is None and root.tag != "annotation":
        findings.note("file", f"no VOC annotation: its root is <{root.tag}>")
    return root


def _read_object(item: ElementTree.Element) -> tuple[list[float], str, str, str]:
    """Return the box (pixels as written), the class name, and kind and description of what is wrong ('' when valid)."""
    name = (item.findtext("name") or "").strip()
    if (item.findtext("difficult") or "0").strip() not in ("0", "false", "False", "Unspecified", ""):
        return [], name, "difficult", "marked difficult"
    try:
        box = [float(item.findtext(f"bndbox/{side}") or "") for side in _SIDES] if item.find("bndbox") is not None else _polygon_box(item)
    except ValueError:
        return [], name, "number", f"no bndbox with the numbers {', '.join(_SIDES)}"
    if not all(map(math.isfinite, box)) or box[2] < box[0] or box[3] < box[1]:
        return [], name, "area", f"the box {box} ends before it begins"
    return box, name, "", ""


def _polygon_box(item: ElementTree.Element) -> list[float]:
    """Return the box of an object that has a polygon only: ``<x1> <y1> <x2> ...`` (Roboflow), or ``<pt><x> <y></pt>`` (LabelMe's site).

    Raises:
        ValueError: it has none.
    """
    corners = [node for node in item.iterfind("polygon//*") if re.fullmatch(r"[xy]\d*", node.tag)]
    x, y = ([float(node.text or "") for node in corners if node.tag[0] == side] for side in "xy")
    if len(x) < 3 or len(x) != len(y):
        raise ValueError
    return [min(x), min(y), max(x), max(y)]
