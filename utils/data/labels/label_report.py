"""The annotations of one image, what the readers found wrong, and the counts of a split."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.log import LOG

MAX_PER_FILE = 50
"""Findings kept of one file; the counts stay exact beyond it."""

_MAX_TEXT = 300

KINDS = {
    "image": "images that cannot be used",
    "file": "label files that cannot be read",
    "entry": "incomplete or contradictory entries of a JSON",
    "columns": "lines with an invalid number of columns",
    "number": "annotations with invalid numbers",
    "class": "classes that the dataset does not have",
    "range": "coordinates outside the image",
    "area": "boxes without area",
    "repetition": "repeated boxes",
    "difficult": "objects marked difficult, which are left out",
    "frame": "label files that state another size than that of their image",
    "turned": "boxes of images that EXIF turns",
}
"""The kinds of findings, and their titles."""


@dataclasses.dataclass(frozen=True, slots=True)
class DataFinding:
    """One problem: the file, the line in it (from 1; 0 for the whole file), what is wrong, and which of `KINDS` it is."""

    path: str
    row: int
    text: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.row}: {self.text}" if self.row else f"{self.path}: {self.text}"


class FileFindings:
    """The findings of one label file, with exact counts and a bounded list."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.dropped = 0
        self.kinds: Counter[str] = Counter()
        self.kept: list[DataFinding] = []

    def note(self, kind: str, text: str, line: int = 0) -> None:
        """Record a problem that leaves nothing out."""
        self.kinds[kind] += 1
        if len(self.kept) < MAX_PER_FILE:
            short = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
            self.kept.append(DataFinding(self.path, line, short, kind))

    def drop(self, kind: str, text: str, line: int = 0) -> None:
        """Record an annotation that is left out."""
        self.dropped += 1
        self.note(kind, text, line)

    def all(self) -> list[DataFinding]:
        """Return the list; its last entry tells how many more there are."""
        unlisted = self.kinds.total() - len(self.kept)
        return [*self.kept, DataFinding(self.path, 0, f"and {unlisted} more like these")] if unlisted else self.kept


class ImageAnnotations:
    """The annotations of one image, crowds included.

    Attributes:
        annotations: (k, 5) float64 class, centre x, centre y, width, height; coordinates in 0..1.
        area: (k,) float64 area in pixels of the original image; NaN, the default, where it is the box's.
        crowd: (k,) bool: groups of objects that only the metrics use; none by default.
        polygons: k arrays (m, 2) float32 in 0..1; m is 0 for a box without polygon.
        stored: whether they are those of the image before EXIF turns it; None where that is not known.
        findings: what was wrong.
    """

    def __init__(
        self,
        findings: FileFindings,
        annotations: NDArray[np.float64] | None = None,
        polygons: list[NDArray[np.float32]] | None = None,
        area: NDArray[np.float64] | None = None,
        crowd: NDArray[np.bool_] | None = None,
        stored: bool | None = None,
    ) -> None:
        self.findings = findings
        self.stored = stored
        self.annotations = np.zeros((0, 5)) if annotations is None else annotations.reshape(-1, 5)
        count = len(self.annotations)
        self.area = np.full(count, np.nan) if area is None else area
        self.crowd = np.zeros(count, np.bool_) if crowd is None else crowd
        self.polygons = [NO_POLYGON] * count if polygons is None else polygons


NO_POLYGON: NDArray[np.float32] = np.zeros((0, 2), np.float32)
NO_POLYGON.flags.writeable = False


@dataclasses.dataclass(frozen=True, slots=True)
class LabelReport:
    """The counts of a split.

    Attributes:
        images: usable images; those that are not `labelled` are the background.
        corrupt: images left out.
        absent: missing images that a list or a COCO JSON names.
        crowd: annotations that only the metrics use; `boxes` does not count them.
        dropped: annotations left out.
        kinds: number of findings of each of `KINDS`.
        unlabelled: images without a label file, where there is one for each image.
        strays: label files in the folders of the labels that belong to no image.
        passed_over: files that hold an image, but have no image's suffix.
        deselected: annotations of classes that were not chosen.
    """

    split: str
    images: int
    corrupt: int
    absent: int
    labelled: int
    boxes: int
    crowd: int
    dropped: int
    findings: tuple[DataFinding, ...]
    kinds: dict[str, int] = dataclasses.field(default_factory=dict)
    unlabelled: int = 0
    strays: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    deselected: int = 0

    def summary(self) -> str:
        """Return the counts in one line."""
        crowd = f" and {self.crowd} crowd" if self.crowd else ""
        absent = f", {self.absent} absent" if self.absent else ""
        images = f"{self.images} images, {self.labelled} labelled, {self.images - self.labelled} background, {self.corrupt} corrupt"
        return f"{self.split}: {images}{absent}; {self.boxes} boxes{crowd}; {self.dropped} annotations dropped"

    def lines(self, limit: int | None = None) -> Iterator[str]:
        """Yield the findings as text, at most `limit` of them and then how many are left."""
        shown = self.findings[:limit]
        yield from map(str, shown)
        if len(shown) < len(self.findings):
            yield f"... and {len(self.findings) - len(shown)} more findings"

    def log(self, limit: int = 20) -> None:
        """Log the summary, and the first findings as warnings."""
        LOG.info(self.summary())
        for line in self.lines(limit):
            LOG.warning("  %s", line)

    def why_no_box(self) -> str:
        """Return why there is no box, and what to do."""
        if self.deselected:
            return f"none of its {self.deselected} annotations is of the chosen classes (--classes)"
        if self.crowd:
            return (
                f"all {self.crowd} annotations are crowds (iscrowd 1, as CVAT writes masks), which are never trained on and do not count "
                "for AP; export boxes or polygons, or set iscrowd to 0 in the JSON"
            )
        if self.dropped:
            return f"all {self.dropped} annotations were dropped: {next(self.lines(1))}"
        if self.strays:
            return (
                f"{len(self.strays)} label files belong to no image (the first is {self.strays[0]}); label files are named as their image"
            )
        if self.unlabelled:
            return "no label file was found as labels/NAME.txt parallel to images/, nor as NAME.txt or NAME.xml beside the image"
        return "its label files have no annotations"

    def require_boxes(self, *, why: str = "to train on") -> None:
        """Raise a `UserError` when there is no box."""
        if not self.boxes:
            raise UserError(f"{self.summary()}: there is nothing {why}: {self.why_no_box()}")
