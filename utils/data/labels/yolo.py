"""YOLO label files: one object a line, ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 ...``, coordinates in 0..1.

Each line is read by itself: five columns are a box, seven or any larger odd number a polygon. Where the dataset has key points, they
follow the box's five columns and are not read. An invalid line is dropped and reported; it never costs the image.
"""

from __future__ import annotations

import codecs
import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.labels.label_report import NO_POLYGON, FileFindings, ImageAnnotations

Fault = tuple[str, str]
"""Kind and description."""

_COMMENT = re.compile(r"#[^\r\n]*")

SLACK = 1e-3
"""Coordinates this far outside 0..1 are rounding errors and are clipped; farther ones are errors."""


def read_yolo(path: Path, content: bytes, nc: int, keypoints: int = 0) -> ImageAnnotations:
    """Read the `content` of the label file `path`.

    Args:
        nc: classes are 0 to nc - 1.
        keypoints: number of columns that key points take after a box; 0 for none.
    """
    findings = FileFindings(path)
    text = _text(content)
    lines = (_COMMENT.sub("", text) if "#" in text else text).splitlines()
    boxes = _read_boxes(lines, keypoints)
    if boxes is not None and _all_valid(boxes, nc):
        return ImageAnnotations(findings, boxes)
    return _read_lines(lines, nc, keypoints, findings)


def count_classes(content: bytes) -> int:
    """Return the largest class id of a label file plus one; 0 without any."""
    first = (line.split(maxsplit=1)[0] for line in _text(content).splitlines() if line.strip())
    return max((int(cell) + 1 for cell in first if cell.isdecimal() and len(cell) < 7), default=0)


def _text(content: bytes) -> str:
    """Decode a label file: digits are the same in UTF-8 and in every 8-bit encoding, and UTF-16 has a byte order mark."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    if 0 in content[:2]:  # UTF-16 without a byte order mark: the first character is a digit
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be", errors="replace")
    return content.decode("utf-8-sig", errors="replace")


def _read_boxes(lines: list[str], keypoints: int) -> NDArray[np.float64] | None:
    """Read a file of boxes only at once: (k, 5), or None when it is anything else."""
    numbers: list[float] = []
    try:
        for line in lines:
            cells = line.split()
            if len(cells) not in (0, 5, 5 + keypoints):
                return None
            numbers += map(_number, cells[:5])
    except ValueError:
        return None
    return np.array(numbers).reshape(-1, 5)


def _all_valid(boxes: NDArray[np.float64], nc: int) -> bool:
    """Whether every class exists, every box lies in the image and has an area, and none is repeated."""
    classes, sides = boxes[:, 0], boxes[:, 3:]
    inside = (boxes >= 0).all() and (boxes[:, 1:] <= 1).all() and (sides > 0).all()  # False for NaN too
    if not (inside and (classes < nc).all() and (classes == np.floor(classes)).all()):
        return False
    return len(set(map(_key, boxes.tolist()))) == len(boxes)


def _key(values: list[float]) -> bytes:
    """What tells annotations apart: their bytes, -0 being 0. Nobody can foresee their hashes; many tuples of floats can share one."""
    return struct.pack(f"{len(values)}d", *[value + 0.0 for value in values])


def _read_lines(lines: list[str], nc: int, keypoints: int, findings: FileFindings) -> ImageAnnotations:
    boxes: list[tuple[float, ...]] = []
    polygons: list[NDArray[np.float32]] = []
    seen: set[bytes] = set()
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if not cells:
            continue
        values, fault = _parse(cells, nc, keypoints)
        key = _key(values)
        if not fault and key in seen:
            fault = "repetition", "a repetition of an earlier line"
        if fault:
            findings.drop(*fault, number)
            continue
        seen.add(key)
        points = np.array(values[1:]).reshape(-1, 2) if len(values) > 5 else None
        polygons.append(NO_POLYGON if points is None else points.astype(np.float32))
        boxes.append(tuple(values) if points is None else (values[0], *_bounding_box(points)))
    return ImageAnnotations(findings, np.array(boxes, np.float64).reshape(-1, 5), polygons)


def _parse(cells: list[str], nc: int, keypoints: int) -> tuple[list[float], Fault | None]:
    """Return a line's numbers, clipped, and what is wrong with it."""
    if keypoints:
        if len(cells) not in (5, 5 + keypoints):
            return [], ("columns", f"{len(cells)} columns; with this kpt_shape a line has {5 + keypoints}, or 5 without key points")
        cells = cells[:5]
    count = len(cells)
    if count < 5 or count % 2 == 0:
        return [], (
            "columns",
            f"{count} columns; a box has 5 (class, centre x, centre y, width, height), a polygon 7, 9, 11, ...{_hint(cells)}",
        )
    try:
        values = [_number(cell) for cell in cells]
    except ValueError as error:
        return [], ("number", f"not a number ({error}){_hint(cells)}")
    if not values[0].is_integer():  # False for NaN and Inf too
        return [], ("class", f"class {cells[0]} is not an integer")
    if not 0 <= values[0] < nc:
        return [], ("class", f"class {values[0]:.15g} is outside 0 to {nc - 1} (the dataset has nc = {nc})")
    for value in values[1:]:
        if not -SLACK <= value <= 1 + SLACK:  # True for NaN too
            hint = "; pixels? coordinates are fractions of the width and height" if value > 2 else _hint(cells) if value == 2 else ""
            return [], ("range", f"coordinate {value:g} is outside 0 to 1{hint}")
    values[1:] = [min(max(v, 0.0), 1.0) for v in values[1:]]
    sides = _bounding_box(np.array(values[1:]).reshape(-1, 2))[2:] if count > 5 else values[3:]
    return values, None if min(sides) > 0 else ("area", "the box has no area")


def _hint(cells: list[str]) -> str:
    """Return what a line that cannot be read may be."""
    count = len(cells)
    if count >= 5 and any(re.fullmatch(r"-?\d*,\d+", cell) for cell in cells[1:]):
        return "; decimals are written with a point"
    if count >= 5 and re.match(r"[^\W\d]", cells[0]):
        return "; the first column is the number of the class, from 0, not its name"
    if count == 6:
        return "; label files have no sixth column such as a confidence"
    if count == 1 and cells[0].count(",") + cells[0].count(";") >= 4:
        return "; columns are separated by spaces, not commas"
    if count > 6 and (count - 5) % 3 == 0:
        return f"; key points with their visibility? then the data YAML needs 'kpt_shape: [{(count - 5) // 3}, 3]'"
    return ""


def _number(cell: str) -> float:
    if "_" in cell:  # as in Python's 1_000
        raise ValueError(f"could not convert string to float: {cell!r}")
    return float(cell)


def _bounding_box(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """(m, 2) points -> centre x, centre y, width, height of their bounding box."""
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
