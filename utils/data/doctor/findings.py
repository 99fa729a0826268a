"""What the doctor looks at, and what it finds: splits with all that was read of them, and groups of findings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.doctor.decode import Look
from utils.data.labels.label_report import Finding
from utils.data.scan import Sources
from utils.data.scan_cache import Table

MOST_FINDINGS = 10_000
"""Findings kept of one group; its count stays exact beyond it."""

SEVERITIES = ("error", "warning", "note")
"""Errors cost images, boxes or the truth of the result; warnings are worth a look; notes are no fault."""


@dataclasses.dataclass(slots=True)
class Group:
    """Findings of one kind in one split ("" for the data set as a whole)."""

    severity: str
    kind: str
    split: str
    title: str
    advice: str = ""
    count: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def add(self, path: str | Path, text: str, row: int = 0) -> None:
        """Count a finding, and keep it while there is room."""
        self.count += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(str(path), row, text, self.kind))


@dataclasses.dataclass(slots=True)
class Split:
    """A split with all that was read of it.

    Attributes:
        table: the usable images and their rows.
        sources: the label files with their contents.
        looks: by file, of the usable images.
        labels: by image, its label file or COCO JSON and, for the former, the content.
    """

    name: str
    table: Table
    sources: Sources
    looks: dict[str, Look] = dataclasses.field(default_factory=dict)
    labels: dict[str, tuple[Path, bytes]] = dataclasses.field(default_factory=dict)

    @property
    def owner(self) -> NDArray[np.int64]:
        """(N,) number of the image that each row belongs to."""
        return np.repeat(np.arange(len(self.table.paths)), np.diff(self.table.starts))

    def place(self, row: int) -> tuple[str, int]:
        """Return the label file and the line of a row of the table; the image, or no line, where it has none of its own."""
        image = int(np.searchsorted(self.table.starts, row, "right")) - 1
        path = self.table.paths[image]
        if path not in self.labels:
            return path, 0
        label, content = self.labels[path]
        lines = [number for number, line in enumerate(content.splitlines(), 1) if line.strip()]
        first, last = (int(n) for n in self.table.starts[image : image + 2])
        whole = label.suffix == ".txt" and len(lines) == last - first
        return str(label), lines[row - first] if whole else 0


def box_pixels(split: Split, imgsz: int) -> NDArray[np.float64]:
    """(N, 2) width and height of every row in pixels, once its image is scaled to a longest side of `imgsz`."""
    frames = split.table.sizes[split.owner][:, ::-1].astype(np.float64)
    return split.table.rows[:, 3:5] * frames * (imgsz / np.maximum(frames.max(1, initial=1), 1))[:, None]
