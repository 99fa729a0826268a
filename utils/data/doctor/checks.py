"""The checks of the doctor: each takes the splits that were read and returns groups of findings."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.config import DataConfig
from utils.data.doctor.findings import FindingGroup, ScannedSplit, box_pixels
from utils.data.index import Index
from utils.data.labels.label_report import KINDS
from utils.data.preflight import find_problems
from utils.geometry import iou

TINY = 3.0
"""Sides in pixels below which a box is called tiny: less than half a cell of the finest feature map."""

_ADVICE = {
    "image": "they are left out; replace or remove them",
    "file": "the image counts as one without objects",
    "class": "these boxes are left out",
    "range": "these boxes are left out; coordinates are fractions of the width and height, from 0 to 1",
    "repetition": "the first one counts",
    "frame": "was the image replaced or rotated after labelling?",
    "turned": "look at them in train_batch0.jpg; images that are saved upright, without EXIF, leave no doubt",
}
_MILD = {"difficult": "note", "repetition": "warning", "frame": "warning", "turned": "warning"}


def run_checks(data: DataConfig, splits: Sequence[ScannedSplit], imgsz: int) -> list[FindingGroup]:
    """Run every check; groups may be empty."""
    found = [*_absent(data, splits), *_whole(data, splits), *_names(data)]
    uses_zero = any((split.index.annotations[:, 0] == 0).any() for split in splits)
    from_one = not uses_zero and any(split.index.report.kinds.get("class") for split in splits)
    for split in splits:
        found += _readers(split, from_one=from_one)
        found += [*_unlabelled(split), *_boxes(split, imgsz, data.names), *_images(split), *_paths(split)]
    return [*found, *_strays(splits), *_classes(data, splits)]


def _absent(data: DataConfig, splits: Sequence[ScannedSplit]) -> Iterator[FindingGroup]:
    absent = FindingGroup("error", "split", "", "missing splits")
    for message in data.absent.values():
        absent.add(data.yaml, message.removeprefix(f"{data.yaml}: "))
    yield absent
    if any(split.name == "all" for split in splits):
        same = FindingGroup("note", "split", "", "splits of the same images")
        same.add(data.yaml, "there is no 'train' and 'val'; the same images serve as both, so what is measured is too good")
        yield same
        return
    known = data.splits.keys() | data.absent.keys()
    missing = FindingGroup("warning", "split", "", "splits that the dataset does not name")
    if "train" not in known:
        missing.add(data.yaml, "there is no 'train' to train on")
    if not known & {"val", "test"}:
        missing.add(data.yaml, "there is no 'val' to validate on")
    yield missing
    replaced = FindingGroup("note", "split", "", "splits replaced by another one")
    if "val" not in known and "test" in known:
        replaced.add(data.yaml, "there is no 'val'; 'test' is used for validation")
    yield replaced


def _names(data: DataConfig) -> Iterator[FindingGroup]:
    ambiguous = FindingGroup("warning", "name", "", "ambiguous class names")
    seen: dict[str, int] = {}
    for number, name in data.names.items():
        key = " ".join(name.casefold().split())
        if key in seen:
            ambiguous.add(data.yaml, f"classes {seen[key]} and {number} have the same name {name!r} but for case and spaces")
        elif not key or name != name.strip() or not name.isprintable():
            ambiguous.add(data.yaml, f"class {number} is named {name!r}")
        seen.setdefault(key, number)
    yield ambiguous


def _readers(split: ScannedSplit, *, from_one: bool) -> Iterator[FindingGroup]:
    """Images and annotations that the readers could not use; `from_one` if class ids seem to start at 1."""
    groups: dict[str, FindingGroup] = {}
    for kind, count in split.index.report.kinds.items():
        hint = "; class 0 is never used: are they counted from 1?" if kind == "class" and from_one else ""
        groups[kind] = FindingGroup(_MILD.get(kind, "error"), kind, split.name, KINDS[kind], _ADVICE.get(kind, "") + hint)
        groups[kind].count = count
    for finding in split.index.report.findings:
        if finding.kind:
            groups[finding.kind].findings.append(finding)
    yield from groups.values()


def _unlabelled(split: ScannedSplit) -> Iterator[FindingGroup]:
    if split.sources.jsons:
        return
    missing = FindingGroup("warning", "unlabelled", split.name, "images without a label file", "they count as images without objects")
    empty = FindingGroup("note", "background", split.name, "images with an empty label file", "they count as images without objects")
    labelled = {str(source.path) for source in split.sources.images if source.label}
    for path in map(str, split.index.paths):
        if path not in labelled:
            missing.add(path, "no label file")
        elif path in split.labels and not split.labels[path][1].strip():
            empty.add(split.labels[path][0], "no annotations")
    yield missing
    yield empty


def _whole(data: DataConfig, splits: Sequence[ScannedSplit]) -> Iterator[FindingGroup]:
    """What train, val and compare check too, as far as no other check tells more."""
    titles = {"box": "splits without a box", "keypoints": "polygons that look like key points", "suffix": "images that are not read"}
    for problem in find_problems({split.name: split.index for split in splits}):
        if problem.kind in titles:
            group = FindingGroup(problem.severity, problem.kind, problem.split, titles[problem.kind])
            group.add(data.yaml, problem.text)
            yield group


def _strays(splits: Sequence[ScannedSplit]) -> Iterator[FindingGroup]:
    """Label files without an image, in the label folders of the splits; and images that share a label file."""
    stray = FindingGroup("warning", "stray", "", "label files without an image", "they are never read")
    shared = FindingGroup("warning", "stray", "", "images that share a label file", "give them different names")
    used: defaultdict[str, set[str]] = defaultdict(set)
    for split in splits:
        for image, (label, _) in split.labels.items():
            used[str(label)].add(os.path.realpath(image))
    for path in sorted({path for split in splits for path in split.sources.strays} - used.keys()):
        stray.add(path, f"no image is called {Path(path).stem}")
    for path, images in used.items():
        if len(images) > 1:
            shared.add(path, f"belongs to {', '.join(sorted(map(os.path.basename, images)))}")
    yield stray
    yield shared


def _classes(data: DataConfig, splits: Sequence[ScannedSplit]) -> Iterator[FindingGroup]:
    counts = {split.name: np.bincount(split.index.annotations[:, 0].astype(np.int64), minlength=data.nc) for split in splits}
    unused = FindingGroup("warning", "class", "", "classes without a single box", "are the names right?")
    for number in np.flatnonzero(sum(counts.values()) == 0).tolist() if counts else ():
        unused.add(data.yaml, f"class {number} ({data.names[number]})")
    yield unused
    for name, mine in counts.items():
        advice = "they are never trained" if name == "train" else "they are not evaluated"
        absent = FindingGroup("warning", "class", name, "classes missing here but present in other splits", advice)
        for number in np.flatnonzero((sum(counts.values()) > 0) & (mine == 0)).tolist():
            others = ", ".join(f"{other} {count[number]}" for other, count in counts.items() if count[number])
            absent.add(data.yaml, f"class {number} ({data.names[number]}): boxes in {others}")
        yield absent


def _boxes(split: ScannedSplit, imgsz: int, names: Mapping[int, str]) -> Iterator[FindingGroup]:
    title = f"boxes with a side below {TINY:g} pixels at --imgsz {imgsz}"
    tiny = FindingGroup("warning", "tiny", split.name, title, "they are hard to detect")
    sides = box_pixels(split.index, imgsz)
    for i in tiny.places(np.flatnonzero((sides.min(1, initial=imgsz) < TINY) & ~split.index.crowds)):
        path, line = split.location(i)
        tiny.add(path, f"{_box(split, i, names)} is {sides[i, 0]:.1f} x {sides[i, 1]:.1f} pixels", line)
    yield tiny
    twice = FindingGroup("warning", "overlap", split.name, "overlapping boxes of one class", "is it one object?")
    unsure = FindingGroup("warning", "overlap", split.name, "overlapping boxes of two classes", "which is it?")
    for a, b, overlap in _overlaps(split.index):
        same = split.index.annotations[a, 0] == split.index.annotations[b, 0]
        for group, chosen in ((twice, same), (unsure, ~same)):
            for at in group.places(np.flatnonzero(chosen)):
                path, line = split.location(b[at])
                group.add(path, f"{_box(split, b[at], names)} and {_box(split, a[at], names)} have an IoU of {overlap[at]:.2f}", line)
    yield twice
    yield unsure


def _box(split: ScannedSplit, annotation: int | np.int64, names: Mapping[int, str]) -> str:
    cls, x, y = split.index.annotations[annotation, :3].tolist()
    return f"{names[int(cls)]} at {x:.3f} {y:.3f}"


def _overlaps(index: Index, min_iou: float = 0.9) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Yield pairs of annotations of one image with at least that IoU, as arrays: the lower numbers, the higher ones, the IoUs.

    Sorted by their left sides, such boxes are near each other; among more than 200 overlapping neighbours, some pairs are skipped.
    """
    for first, last in zip(index.starts[:-1].tolist(), index.starts[1:].tolist(), strict=True):
        used = np.flatnonzero(~index.crowds[first:last]) + first
        if len(used) < 2:
            continue
        centre, half = index.annotations[used, 1:3].astype(np.float64), index.annotations[used, 3:5].astype(np.float64) / 2
        box = np.concatenate((centre - half, centre + half), 1)
        order = np.argsort(box[:, 0], kind="stable")
        used, box = used[order], box[order]
        for lag in range(1, min(len(box), 200)):
            overlap = iou(box[:-lag], box[lag:])
            if len(at := np.flatnonzero(overlap >= min_iou)):
                pairs = np.sort(np.stack((used[at], used[at + lag])), axis=0)
                yield pairs[0], pairs[1], overlap[at]
            if (box[lag:, 0] >= box[:-lag, 2]).all():
                break


def _images(split: ScannedSplit) -> Iterator[FindingGroup]:
    damaged = FindingGroup("error", "image", split.name, "images with a valid header and damaged data", "they are replaced by grey images")
    unusual = FindingGroup("note", "format", split.name, "images other than plain RGB, or of another format than their suffix")
    unusual.advice = "they are read all the same"
    for path, image in split.images.items():
        if image.fault:
            damaged.add(path, image.fault)
        if image.traits[1:]:
            unusual.add(path, ", ".join(image.traits))
    yield damaged
    yield unusual


def _paths(split: ScannedSplit) -> Iterator[FindingGroup]:
    refused = FindingGroup("warning", "path", split.name, "file names that other tools or systems may refuse")
    folded: dict[str, str] = {}
    for path in split.files:
        name = os.path.basename(path)  # noqa: PTH119
        if not name.isprintable():
            refused.add(path, "control characters or invalid UTF-8")
        elif name != name.strip() or set(name) & set('<>:"|?*\\'):
            refused.add(path, 'leading or trailing spaces, or one of < > : " | ? * \\')
        elif (other := folded.setdefault(path.casefold(), path)) != path:
            refused.add(path, f"differs from {os.path.basename(other)} in case only")  # noqa: PTH119
    yield refused
