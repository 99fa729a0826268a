"""The doctor's input and output: splits with all that was read of them, and groups of findings."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.doctor.image_hash import DecodedImage
from utils.data.index import Index
from utils.data.labels.label_report import DataFinding
from utils.data.sources import SplitSources

MAX_FINDINGS = 10_000
"""Findings kept of one group; its count stays exact beyond it."""

SEVERITIES = ("error", "warning", "note")
"""Errors cost images, boxes or the validity of the result; warnings may; notes do not."""


@dataclasses.dataclass(slots=True)
class FindingGroup:
    """Findings of one kind in one split ("" for the dataset as a whole)."""

    severity: str
    kind: str
    split: str
    title: str
    advice: str = ""
    count: int = 0
    findings: list[DataFinding] = dataclasses.field(default_factory=list)

    def places(self, numbers: NDArray[np.int64]) -> list[int]:
        """Return those of `numbers` for which there is room, to be added, and count the others."""
        room = MAX_FINDINGS - len(self.findings)
        self.count += max(len(numbers) - room, 0)
        return numbers[:room].tolist()

    def add(self, path: str | Path, text: str, line: int = 0) -> None:
        """Count a finding, and keep it while there is room."""
        self.count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(DataFinding(str(path), line, text, self.kind))


@dataclasses.dataclass(slots=True)
class ScannedSplit:
    """A split with all that was read of it.

    Attributes:
        index: the usable images and their annotations.
        files: every image, usable or not.
        sources: the label files with their contents.
        images: by path, the usable images once they are decoded.
        labels: by image, its label file and the content.
    """

    name: str
    index: Index
    files: list[str]
    sources: SplitSources
    images: dict[str, DecodedImage] = dataclasses.field(default_factory=dict)
    labels: dict[str, tuple[Path, bytes]] = dataclasses.field(default_factory=dict)

    def location(self, annotation: int | np.int64) -> tuple[str, int]:
        """Return the label file and line of an annotation; the image, or line 0, where it has none of its own."""
        image = int(np.searchsorted(self.index.starts, annotation, "right")) - 1
        path = str(self.index.paths[image])
        if path not in self.labels:
            return path, 0
        label, content = self.labels[path]
        lines = _written_lines(content)
        first, last = (int(n) for n in self.index.starts[image : image + 2])
        whole = label.suffix == ".txt" and len(lines) == last - first
        return str(label), lines[annotation - first] if whole else 0


@functools.lru_cache(maxsize=1)
def _written_lines(content: bytes) -> list[int]:
    """The numbers, from 1, of the lines that are not blank."""
    return [number for number, line in enumerate(content.splitlines(), 1) if line.strip()]


def box_pixels(index: Index, imgsz: int) -> NDArray[np.float64]:
    """(N, 2) width and height of every box in pixels, once its image is scaled to a longest side of `imgsz`."""
    owner = np.repeat(np.arange(len(index)), np.diff(index.starts))
    frames = index.sizes[owner][:, ::-1].astype(np.float64)
    return index.annotations[:, 3:5] * frames * (imgsz / np.maximum(frames.max(1, initial=1), 1))[:, None]
