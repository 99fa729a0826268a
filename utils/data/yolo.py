"""YOLO's label files: one row an object, ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 ...``, as shares of the image.

Each row is judged by itself: five columns are a box, seven or any larger odd number a polygon, whatever the other rows
of the file are. A row that cannot be used is dropped and named; it never costs the image.
"""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.report import NO_POLYGON, Findings, Labels

SLACK = 1e-3
"""Coordinates this far outside 0..1 are rounding errors and are clipped; farther ones are errors."""


def read_yolo(path: Path, content: bytes, nc: int) -> Labels:
    """Read the `content` of the label file `path`; classes are 0 to nc - 1."""
    findings = Findings(path)
    lines = _text(content).splitlines()
    cells = [line.split() for line in lines]
    numbers = [i for i, row in enumerate(cells) if row]
    if not numbers:
        return Labels.of(findings)
    boxes = _plain(cells, numbers)
    if boxes is not None and _flawless(boxes, nc):
        return Labels.of(findings, boxes)
    return _row_by_row(cells, numbers, nc, findings)


def count_classes(content: bytes) -> int:
    """Return the largest class of a label file plus one, looking at nothing else; 0 when no row has one."""
    first = (line.split(maxsplit=1)[0] for line in _text(content).splitlines() if line.strip())
    return max((int(cell) + 1 for cell in first if cell.isdecimal() and len(cell) < 7), default=0)


def _text(content: bytes) -> str:
    """Decode a label file: digits are the same in UTF-8 and in every 8-bit encoding, and UTF-16 has its mark."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    return content.decode("utf-8-sig", errors="replace")


def _plain(cells: list[list[str]], numbers: list[int]) -> NDArray[np.float64] | None:
    """The usual file, boxes only, at once: (k, 5), or None when it is anything else."""
    if any(len(cells[i]) != 5 for i in numbers):
        return None
    try:
        return np.array([[float(cell) for cell in cells[i]] for i in numbers])
    except ValueError:
        return None


def _flawless(rows: NDArray[np.float64], nc: int) -> bool:
    classes, sides = rows[:, 0], rows[:, 3:]
    sound = (rows >= 0).all() and (rows[:, 1:] <= 1).all() and (sides > 0).all()  # False for NaN too
    known = (classes < nc).all() and (classes == np.floor(classes)).all()
    return bool(sound and known and (len(rows) == 1 or len({tuple(row) for row in rows.tolist()}) == len(rows)))


def _row_by_row(cells: list[list[str]], numbers: list[int], nc: int, findings: Findings) -> Labels:
    rows: list[tuple[float, ...]] = []
    polygons: list[NDArray[np.float32]] = []
    seen: set[tuple[float, ...]] = set()
    for i in numbers:
        values, fault = _parse(cells[i], nc)
        if not fault and (key := tuple(values)) in seen:
            fault = "a repetition of an earlier row"
        if fault:
            findings.drop(fault, i + 1)
            continue
        seen.add(key)
        points = np.array(values[1:]).reshape(-1, 2) if len(values) > 5 else None
        polygons.append(NO_POLYGON if points is None else points.astype(np.float32))
        rows.append(key if points is None else (values[0], *_around(points)))
    return Labels.of(findings, np.array(rows, np.float64).reshape(-1, 5), polygons)


def _parse(cells: list[str], nc: int) -> tuple[list[float], str]:
    """Return a row's numbers, clipped, and what is wrong with it ('' when it can be used)."""
    count = len(cells)
    if count < 5 or count % 2 == 0:
        hint = "; a sixth, like a confidence, does not belong here" if count == 6 else ""
        return [], f"{count} columns; a box has 5 (class, centre x, centre y, width, height), a polygon 7, 9, 11, ...{hint}"
    try:
        values = [float(cell) for cell in cells]
    except ValueError as error:
        return [], f"not a number ({error})"
    fault = _class_fault(values[0], cells[0], nc) or _range_fault(values[1:])
    if fault:
        return [], fault
    values[1:] = [min(max(v, 0.0), 1.0) for v in values[1:]]
    sides = _around(np.array(values[1:]).reshape(-1, 2))[2:] if count > 5 else values[3:]
    return values, "" if min(sides) > 0 else "the box has no area"


def _class_fault(value: float, cell: str, nc: int) -> str:
    if not value.is_integer():  # neither are NaN and infinity
        return f"class {cell} is not a whole number"
    if not 0 <= value < nc:
        return f"class {int(value)} is outside 0 to {nc - 1} (the data set has nc = {nc})"
    return ""


def _range_fault(coordinates: list[float]) -> str:
    for value in coordinates:
        if not -SLACK <= value <= 1 + SLACK:  # True for NaN too
            why = "; pixels? rows hold shares of the width and height" if value > 2 else ""
            return f"coordinate {value:g} is outside 0 to 1{why}"
    return ""


def _around(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """(m, 2) points -> centre x, centre y, width, height of the box around them."""
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
