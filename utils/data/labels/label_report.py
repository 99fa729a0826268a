"""What the readers found wrong, and the counts: one row of a label file, one image, one split."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.log import LOG

MOST_PER_FILE = 50
"""Findings kept of one file; the counts stay exact beyond it."""

_MOST_TEXT = 300

KINDS = {
    "image": "images that cannot be used",
    "file": "label files that cannot be read",
    "entry": "entries of a JSON that say too little or contradict each other",
    "columns": "rows with a wrong number of columns",
    "number": "rows that are no numbers",
    "class": "classes that the data set does not have",
    "range": "coordinates outside the image",
    "area": "boxes without area",
    "repetition": "boxes that are there twice",
    "difficult": "objects marked difficult, which are left out",
    "frame": "label files that state another size than their image has",
}
"""What can be wrong, and how it is called where findings are grouped."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: the file, the row in it (from 1; 0 for the whole file), what, and which of `KINDS` it is."""

    path: str
    row: int
    text: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.row}: {self.text}" if self.row else f"{self.path}: {self.text}"


class Findings:
    """The findings of one label file, with exact counts and a bounded list."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.dropped = 0
        self.kinds: Counter[str] = Counter()
        self.kept: list[Finding] = []

    def note(self, kind: str, text: str, row: int = 0) -> None:
        """Remember something that costs nothing."""
        self.kinds[kind] += 1
        if len(self.kept) < MOST_PER_FILE:
            short = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."
            self.kept.append(Finding(self.path, row, short, kind))

    def drop(self, kind: str, text: str, row: int = 0) -> None:
        """Remember a row that is left out."""
        self.dropped += 1
        self.note(kind, text, row)

    def all(self) -> list[Finding]:
        """Return the list, its last line telling how many more there are."""
        unlisted = self.kinds.total() - len(self.kept)
        return [*self.kept, Finding(self.path, 0, f"and {unlisted} more like these")] if unlisted else self.kept


@dataclasses.dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one image: k rows, crowd rows among them.

    Attributes:
        rows: (k, 5) float64: class, centre x, centre y, width, height; coordinates as shares of the image.
        area: (k,) float64 area in pixels of the original image; NaN where it is the box's.
        crowd: (k,) bool: a group that only the metrics look at.
        polygons: k arrays (m, 2) float32, shares of the image; m is 0 for a box without polygon.
        findings: what was wrong.
    """

    rows: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    polygons: list[NDArray[np.float32]]
    findings: Findings

    @classmethod
    def of(
        cls,
        findings: Findings,
        rows: NDArray[np.float64] | None = None,
        polygons: list[NDArray[np.float32]] | None = None,
        area: NDArray[np.float64] | None = None,
        crowd: NDArray[np.bool_] | None = None,
    ) -> Labels:
        """Fill in what a reader does not say: box areas, no crowd, no polygons, no rows."""
        rows = np.zeros((0, 5)) if rows is None else rows.reshape(-1, 5)
        return cls(
            rows,
            np.full(len(rows), np.nan) if area is None else area,
            np.zeros(len(rows), np.bool_) if crowd is None else crowd,
            [NO_POLYGON] * len(rows) if polygons is None else polygons,
            findings,
        )


NO_POLYGON: NDArray[np.float32] = np.zeros((0, 2), np.float32)
NO_POLYGON.flags.writeable = False


@dataclasses.dataclass(frozen=True, slots=True)
class LabelReport:
    """The counts of a split.

    Attributes:
        found: images with a label file, or listed with at least one annotation in a COCO JSON.
        missing: images without one; with `empty` and found files that keep no row, these are the background.
        empty: label files without a row.
        corrupt: images left out.
        absent: images that a list or a COCO JSON names and that are not there.
        crowd: rows that only the metrics use; `boxes` does not count them.
        dropped: label rows left out.
        kinds: how many findings there are of each of `KINDS`.
    """

    split: str
    images: int
    found: int
    missing: int
    empty: int
    corrupt: int
    absent: int
    labelled: int
    boxes: int
    crowd: int
    dropped: int
    findings: tuple[Finding, ...]
    kinds: dict[str, int] = dataclasses.field(default_factory=dict)

    def summary(self) -> str:
        """Return the line that says it all."""
        crowd = f" and {self.crowd} crowd" if self.crowd else ""
        absent = f", {self.absent} absent" if self.absent else ""
        images = f"{self.images} images, {self.labelled} labelled, {self.images - self.labelled} background, {self.corrupt} corrupt"
        return f"{self.split}: {images}{absent}; {self.boxes} boxes{crowd}; {self.dropped} rows dropped"

    def lines(self, most: int | None = None) -> Iterator[str]:
        """Yield the findings as text, at most `most` of them and then how many are left."""
        shown = self.findings[:most]
        yield from map(str, shown)
        if len(shown) < len(self.findings):
            yield f"... and {len(self.findings) - len(shown)} more findings"

    def log(self, most: int = 20) -> None:
        """Log the summary, and the first findings as warnings."""
        LOG.info(self.summary())
        for line in self.lines(most):
            LOG.log(logging.WARNING, "  %s", line)

    def require_boxes(self, *, why: str = "to train on") -> None:
        """Raise a `UserError` when not one box is left."""
        if not self.boxes:
            where = "labels/NAME.txt parallel to images/, or NAME.txt or NAME.xml beside the image"
            first = next(self.lines(1), f"Labels are looked for as {where}")
            raise UserError(f"{self.summary()}: there is nothing {why}. {first}")
