"""All there is to say about a data set, as plain data that text and JSON are made of."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.data.config import SPLITS, DataConfig, load_data
from utils.data.doctor import checks as complaints
from utils.data.doctor import duplicates as leaks
from utils.data.doctor.decode import look_at_all
from utils.data.doctor.findings import SEVERITIES, Group, Split, box_pixels
from utils.data.labels.label_report import Finding
from utils.data.scan import Sources, scan_afresh
from utils.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a split: counts, formats of images and labels, boxes by class number, and sizes as minimum, median and maximum."""

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
    """All there is to say about a data set; `imgsz` is the size that `box_side` (in pixels) refers to."""

    source: str
    root: str
    names: dict[int, str]
    imgsz: int
    splits: list[Summary]
    groups: list[Group]

    @property
    def clean(self) -> bool:
        """Whether there is nothing but notes."""
        return all(group.severity == "note" for group in self.groups)

    def count(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(group.count for group in self.groups if group.severity == severity)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return {"clean": self.clean, **{f"{s}s": self.count(s) for s in SEVERITIES}, **dataclasses.asdict(self)}


def diagnose(
    source: str | Path,
    *,
    imgsz: int,
    distance: int,
    progress: Callable[[int], Callable[[int], object]],
) -> Diagnosis:
    """Read every file of a data set, write none, and judge it.

    Args:
        source: as `load_data` takes it; nothing is downloaded.
        imgsz: longest side in pixels at which boxes are called tiny.
        distance: bits of 64 that two files of one picture may differ in.
        progress: called with the number of images; what it returns is called with the number of those done since then.

    Raises:
        UserError: the data set cannot be read at all.
    """
    data = load_data(source, complete=False)
    splits, groups = _read(data)
    _look(splits, progress)
    groups += [*complaints.all_of(data, splits, imgsz), *leaks.between_and_inside(splits, distance)]
    groups = sorted(_merged(groups), key=lambda group: SEVERITIES.index(group.severity))
    return Diagnosis(str(source), str(data.root), data.names, imgsz, [summarise(s, data.names, imgsz) for s in splits], groups)


def _merged(groups: Sequence[Group]) -> Iterator[Group]:
    """Leave empty groups out, and say once what two splits of the same files have in common."""
    seen: dict[tuple[str, str, tuple[Finding, ...]], Group] = {}
    for group in groups:
        if not group.count:
            continue
        first = seen.setdefault((group.kind, group.title, tuple(group.findings)), group)
        if first is group:
            yield group
        else:
            first.split += f", {group.split}"


def _read(data: DataConfig) -> tuple[list[Split], list[Group]]:
    """Scan the splits; one that cannot be read is a finding, as long as there are others."""
    names = [name for name in SPLITS if name in data.splits]
    alone = data.yaml.suffix.lower() not in (".yaml", ".yml") and len(set(data.splits.values())) == 1
    splits, failed = [], Group("error", "split", "", "splits that cannot be read")
    refusal: UserError | None = None
    for name in names[:1] if alone and len(names) == len(SPLITS) else names:
        try:
            table, sources = scan_afresh(data, name)
        except UserError as error:
            refusal = error
            failed.add(name, str(error))
            continue
        splits.append(Split("all" if alone else name, table, sources, labels=_contents(sources)))
    if refusal and not splits:
        raise refusal
    return splits, [failed]


def _contents(sources: Sources) -> dict[str, tuple[Path, bytes]]:
    pairs = zip(sources.items, sources.contents, strict=True)
    return {str(item.image): (item.label, content) for item, content in pairs if item.label and isinstance(content, bytes)}


def _look(splits: Sequence[Split], progress: Callable[[int], Callable[[int], object]]) -> None:
    """Look at the usable images of all splits, at those that are the same file once."""
    real = {path: os.path.realpath(path) for split in splits for path in split.table.paths}
    files = sorted(set(real.values()))
    looks = dict(zip(files, look_at_all(files, progress(len(files))), strict=True))
    for split in splits:
        split.looks = {path: looks[real[path]] for path in split.table.paths}


def summarise(split: Split, names: dict[int, str], imgsz: int) -> Summary:
    """Count and measure a split."""
    table, report = split.table, split.table.report
    drawn = table.rows[~table.crowds]
    counts = np.bincount(drawn[:, 0].astype(np.int64), minlength=len(names))
    formats = Counter(look.traits[0] for look in split.looks.values() if look.traits)
    kinds = Counter(label.suffix[1:] for label, _ in split.labels.values())
    kinds.update({"json": sum(path not in split.labels for path in table.paths)} if split.sources.jsons else {})
    return Summary(
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
        width=_spread(table.sizes[:, 1]),
        height=_spread(table.sizes[:, 0]),
        box_side=_spread(np.sqrt(box_pixels(split, imgsz).prod(1))),
        boxes_an_image=round(report.boxes / max(report.images, 1), 2),
    )


def _spread(values: NDArray[Any]) -> tuple[float, float, float]:
    if not len(values):
        return 0.0, 0.0, 0.0
    return round(float(values.min()), 1), round(float(np.median(values)), 1), round(float(values.max()), 1)
