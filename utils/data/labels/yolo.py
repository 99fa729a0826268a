"""YOLO's label files: one row an object, ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 ...``, as shares of the image.

Each row is judged by itself: five columns are a box, seven or any larger odd number a polygon, whatever the other rows
of the file are. A row that cannot be used is dropped and named; it never costs the image.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.labels.label_report import NO_POLYGON, Findings, Labels

Fault = tuple[str, str]
"""Kind and description; two empty texts where nothing is wrong."""

SOUND: Fault = ("", "")

MANY = 5000
"""Rows from which on a file is read by NumPy as a whole."""

_REMARK = re.compile(r"#[^\r\n]*")

SLACK = 1e-3
"""Coordinates this far outside 0..1 are rounding errors and are clipped; farther ones are errors."""


def read_yolo(path: Path, content: bytes, nc: int) -> Labels:
    """Read the `content` of the label file `path`; classes are 0 to nc - 1."""
    findings = Findings(path)
    text = _text(content)
    lines = (_REMARK.sub("", text) if "#" in text else text).splitlines()
    boxes = _plain(lines) if len(lines) < MANY else _many(lines)
    if boxes is not None and _flawless(boxes, nc):
        return Labels.of(findings, boxes)
    return _row_by_row(lines, nc, findings)


def count_classes(content: bytes) -> int:
    """Return the largest class of a label file plus one, looking at nothing else; 0 when no row has one."""
    first = (line.split(maxsplit=1)[0] for line in _text(content).splitlines() if line.strip())
    return max((int(cell) + 1 for cell in first if cell.isdecimal() and len(cell) < 7), default=0)


def _text(content: bytes) -> str:
    """Decode a label file: digits are the same in UTF-8 and in every 8-bit encoding, and UTF-16 has its mark."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    if 0 in content[:2]:  # UTF-16 without its mark: the first character of a row is a digit
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be", errors="replace")
    return content.decode("utf-8-sig", errors="replace")


def _plain(lines: list[str]) -> NDArray[np.float64] | None:
    """The usual file, boxes only, at once: (k, 5), or None when it is anything else."""
    cells = [row for line in lines if (row := line.split())]
    if any(len(row) != 5 for row in cells):
        return None
    try:
        return np.array([[_number(cell) for cell in row] for row in cells]).reshape(-1, 5)
    except ValueError:
        return None


def _many(lines: list[str]) -> NDArray[np.float64] | None:
    """`_plain` in a sixth of the time, where NumPy's own overhead does not count."""
    if not any(line.strip() for line in lines):
        return np.zeros((0, 5))
    try:
        rows = np.loadtxt(lines, np.float64, comments=None, ndmin=2)
    except ValueError:
        return None
    return rows if rows.shape[1] == 5 else None


def _flawless(rows: NDArray[np.float64], nc: int) -> bool:
    classes, sides = rows[:, 0], rows[:, 3:]
    sound = (rows >= 0).all() and (rows[:, 1:] <= 1).all() and (sides > 0).all()  # False for NaN too
    known = (classes < nc).all() and (classes == np.floor(classes)).all()
    return bool(sound and known) and not _repeated(rows)


def _repeated(rows: NDArray[np.float64]) -> bool:
    if len(rows) < MANY:
        return len(rows) > 1 and len({tuple(row) for row in rows.tolist()}) < len(rows)
    ordered = rows[np.lexsort(rows.T)]
    return bool((ordered[1:] == ordered[:-1]).all(1).any())


def _row_by_row(lines: list[str], nc: int, findings: Findings) -> Labels:
    rows: list[tuple[float, ...]] = []
    polygons: list[NDArray[np.float32]] = []
    seen: set[tuple[float, ...]] = set()
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if not cells:
            continue
        values, fault = _parse(cells, nc)
        if fault is SOUND and (key := tuple(values)) in seen:
            fault = "repetition", "a repetition of an earlier row"
        if fault is not SOUND:
            findings.drop(*fault, number)
            continue
        seen.add(key)
        points = np.array(values[1:]).reshape(-1, 2) if len(values) > 5 else None
        polygons.append(NO_POLYGON if points is None else points.astype(np.float32))
        rows.append(key if points is None else (values[0], *_around(points)))
    return Labels.of(findings, np.array(rows, np.float64).reshape(-1, 5), polygons)


def _parse(cells: list[str], nc: int) -> tuple[list[float], Fault]:
    """Return a row's numbers, clipped, and what is wrong with it (`SOUND` when it can be used)."""
    count = len(cells)
    if count < 5 or count % 2 == 0:
        return [], (
            "columns",
            f"{count} columns; a box has 5 (class, centre x, centre y, width, height), a polygon 7, 9, 11, ...{_hint(cells)}",
        )
    try:
        values = [_number(cell) for cell in cells]
    except ValueError as error:
        return [], ("number", f"not a number ({error})")
    fault = _class_fault(values[0], cells[0], nc)
    if fault is SOUND:
        fault = _range_fault(values[1:])
    if fault is not SOUND:
        return [], fault
    values[1:] = [min(max(v, 0.0), 1.0) for v in values[1:]]
    sides = _around(np.array(values[1:]).reshape(-1, 2))[2:] if count > 5 else values[3:]
    return values, SOUND if min(sides) > 0 else ("area", "the box has no area")


def _hint(cells: list[str]) -> str:
    if len(cells) == 1 and cells[0].count(",") + cells[0].count(";") >= 4:
        return "; blanks stand between the columns, not commas"
    return "; a sixth, like a confidence, does not belong here" if len(cells) == 6 else ""


def _number(cell: str) -> float:
    if "_" in cell:  # Python's own way to write a million
        raise ValueError(f"could not convert string to float: {cell!r}")
    return float(cell)


def _class_fault(value: float, cell: str, nc: int) -> Fault:
    if not value.is_integer():  # neither are NaN and infinity
        return "class", f"class {cell} is not a whole number"
    if not 0 <= value < nc:
        return "class", f"class {value:.15g} is outside 0 to {nc - 1} (the data set has nc = {nc})"
    return SOUND


def _range_fault(coordinates: list[float]) -> Fault:
    for value in coordinates:
        if not -SLACK <= value <= 1 + SLACK:  # True for NaN too
            why = "; pixels? rows hold shares of the width and height" if value > 2 else ""
            return "range", f"coordinate {value:g} is outside 0 to 1{why}"
    return SOUND


def _around(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """(m, 2) points -> centre x, centre y, width, height of the box around them."""
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
