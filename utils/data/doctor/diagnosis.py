"""The diagnosis of a dataset, as plain data that text and JSON are made of."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.data.config import DataConfig, load_data
from utils.data.doctor.checks import run_checks
from utils.data.doctor.duplicates import duplicate_groups
from utils.data.doctor.findings import SEVERITIES, FindingGroup, ScannedSplit, box_pixels
from utils.data.doctor.image_hash import decode_all
from utils.data.labels.label_report import DataFinding
from utils.data.layouts import SPLITS
from utils.data.scan import scan_uncached
from utils.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class SplitSummary:
    """The figures of a split: counts, formats of images and labels, boxes by class id, and sizes as minimum, median and maximum."""

    name: str
    images: int
    labelled: int
    background: int
    unusable: int
    absent: int
    boxes: int
    crowd: int
    dropped: int
    image_formats: dict[str, int]
    label_formats: dict[str, int]
    classes: list[int]
    width: tuple[float, float, float]
    height: tuple[float, float, float]
    box_side: tuple[float, float, float]
    boxes_an_image: float


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings and figures of a dataset; `imgsz` is the size that `box_side` (in pixels) refers to."""

    source: str
    root: str
    names: dict[int, str]
    imgsz: int
    splits: list[SplitSummary]
    groups: list[FindingGroup]

    @property
    def clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(group.severity == "note" for group in self.groups)

    def count(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(group.count for group in self.groups if group.severity == severity)


def diagnose(source: str | Path, *, imgsz: int, distance: int) -> Diagnosis:
    """Read every file of a dataset, write none, and check it; a terminal shows a progress bar.

    Args:
        source: as `load_data` takes it; nothing is downloaded.
        imgsz: longest side in pixels at which boxes are called tiny.
        distance: maximum number of different bits, of 64, between two files of one image.

    Raises:
        UserError: the dataset cannot be read at all.
    """
    data = load_data(source, complete=False)
    splits, groups = _read(data)
    real = {str(path): os.path.realpath(path) for split in splits for path in split.index.paths}
    files = sorted(set(real.values()))
    images = dict(zip(files, decode_all(files), strict=True))
    for split in splits:
        split.images = {path: images[real[path]] for path in map(str, split.index.paths)}
    groups += [*run_checks(data, splits, imgsz), *duplicate_groups(splits, distance)]
    groups = sorted(_merged(groups), key=lambda group: SEVERITIES.index(group.severity))
    return Diagnosis(str(source), str(data.root), data.names, imgsz, [summarise(s, data.names, imgsz) for s in splits], groups)


def _merged(groups: Sequence[FindingGroup]) -> Iterator[FindingGroup]:
    """Leave empty groups out, and report once what two splits of the same files have in common."""
    seen: dict[tuple[str, str, tuple[DataFinding, ...]], FindingGroup] = {}
    for group in groups:
        if not group.count:
            continue
        first = seen.setdefault((group.kind, group.title, tuple(group.findings)), group)
        if first is group:
            yield group
        else:
            first.split += f", {group.split}"


def _read(data: DataConfig) -> tuple[list[ScannedSplit], list[FindingGroup]]:
    """Scan the splits; one that cannot be read is a finding, as long as there are others."""
    names = [name for name in SPLITS if name in data.splits]
    alone = data.yaml.suffix.lower() not in (".yaml", ".yml") and len(set(data.splits.values())) == 1
    splits, failed = [], FindingGroup("error", "split", "", "splits that cannot be read")
    refusal: UserError | None = None
    for name in names[:1] if alone and len(names) == len(SPLITS) else names:
        try:
            result, sources = scan_uncached(data, name)
        except UserError as error:
            refusal = error
            failed.add(name, str(error))
            continue
        labels = {str(s.path): (s.label, s.content) for s in sources.images if s.label and isinstance(s.content, bytes)}
        splits.append(ScannedSplit("all" if alone else name, result.index, result.files, sources, labels=labels))
    if refusal and not splits:
        raise refusal
    return splits, [failed]


def summarise(split: ScannedSplit, names: dict[int, str], imgsz: int) -> SplitSummary:
    """Count and measure a split."""
    index, report = split.index, split.index.report
    counts = np.bincount(index.annotations[~index.crowds, 0].astype(np.int64), minlength=len(names))
    formats = Counter(image.traits[0] for image in split.images.values() if image.traits)
    kinds = Counter(label.suffix[1:] for label, _ in split.labels.values())
    kinds.update({"json": sum(path not in split.labels for path in map(str, index.paths))} if split.sources.jsons else {})
    return SplitSummary(
        name=split.name,
        images=report.images,
        labelled=report.labelled,
        background=report.images - report.labelled,
        unusable=report.corrupt,
        absent=report.absent,
        boxes=report.boxes,
        crowd=report.crowd,
        dropped=report.dropped,
        image_formats=dict(formats.most_common()),
        label_formats=dict(kinds.most_common()),
        classes=counts.tolist(),
        width=_spread(index.sizes[:, 1]),
        height=_spread(index.sizes[:, 0]),
        box_side=_spread(np.sqrt(box_pixels(index, imgsz).prod(1))),
        boxes_an_image=round(report.boxes / max(report.images, 1), 2),
    )


def _spread(values: NDArray[Any]) -> tuple[float, float, float]:
    if not len(values):
        return 0.0, 0.0, 0.0
    return round(float(values.min()), 1), round(float(np.median(values)), 1), round(float(values.max()), 1)
