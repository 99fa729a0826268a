"""The checks of the doctor: each looks at the splits that were read, and returns groups of findings."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.config import DataConfig
from utils.data.doctor.findings import Group, Split, box_pixels
from utils.data.labels.find_files import LABEL_SUFFIXES, is_image_name, label_folders
from utils.data.labels.label_report import KINDS

TINY = 3.0
"""Sides in pixels below which a box is called tiny: less than half a cell of the finest map."""

_NO_LABELS = {"classes", "obj", "_darknet", "readme", "train", "val", "valid", "test", "trainval", "notes"}
"""Text files beside labels that are none."""

_ADVICE = {
    "image": "they are left out; replace or remove them",
    "file": "the image counts as one without objects",
    "class": "these boxes are left out",
    "range": "these boxes are left out; rows hold shares of the width and height, from 0 to 1",
    "repetition": "the first one counts",
    "frame": "was the image replaced or rotated after labelling?",
}
_MILD = {"difficult": "note", "repetition": "warning", "frame": "warning"}


def all_of(data: DataConfig, splits: Sequence[Split], imgsz: int) -> list[Group]:
    """Run every check; groups may be empty."""
    found = [*_absent(data, splits), *_names(data)]
    for split in splits:
        found += _readers(split, _from_one(splits))
        found += [_undecodable(split), *_unlabelled(split), *_boxes(split, imgsz, data.names), *_traits(split), *_paths(split)]
    return [*found, *_strays(splits), *_classes(data, splits)]


def _absent(data: DataConfig, splits: Sequence[Split]) -> Iterator[Group]:
    gone = Group("error", "split", "", "splits that are not there")
    for message in data.absent.values():
        gone.add(data.yaml, message.removeprefix(f"{data.yaml}: "))
    yield gone
    if any(split.name == "all" for split in splits):
        return
    known = data.splits.keys() | data.absent.keys()
    missing = Group("warning", "split", "", "splits that the data set does not name")
    if "train" not in known:
        missing.add(data.yaml, "there is no 'train' to train on")
    if not known & {"val", "test"}:
        missing.add(data.yaml, "there is no 'val' to validate on")
    yield missing
    replaced = Group("note", "split", "", "splits that another one stands in for")
    if "val" not in known and "test" in known:
        replaced.add(data.yaml, "there is no 'val'; test is validated on")
    yield replaced


def _names(data: DataConfig) -> Iterator[Group]:
    odd = Group("warning", "name", "", "class names that invite mistakes")
    seen: dict[str, int] = {}
    for number, name in data.names.items():
        key = " ".join(name.casefold().split())
        if key in seen:
            odd.add(data.yaml, f"classes {seen[key]} and {number} are both called {name!r}, but for case and blanks")
        elif not key or name != name.strip() or not name.isprintable():
            odd.add(data.yaml, f"class {number} is called {name!r}")
        seen.setdefault(key, number)
    yield odd


def _from_one(splits: Sequence[Split]) -> bool:
    """Whether classes seem to be counted from 1: none is 0, and some are one too many."""
    zero = any((split.table.rows[:, 0] == 0).any() for split in splits)
    return not zero and any(split.table.report.kinds.get("class") for split in splits)


def _readers(split: Split, from_one: bool) -> Iterator[Group]:
    """What the readers of images and labels could not use."""
    groups: dict[str, Group] = {}
    for kind, count in split.table.report.kinds.items():
        hint = "; class 0 is never used: are they counted from 1?" if kind == "class" and from_one else ""
        groups[kind] = Group(_MILD.get(kind, "error"), kind, split.name, KINDS[kind], _ADVICE.get(kind, "") + hint)
        groups[kind].count = count
    for finding in split.table.report.findings:
        if finding.kind:
            groups[finding.kind].findings.append(finding)
    yield from groups.values()


def _undecodable(split: Split) -> Group:
    """A header may be sound and the rest not: loading would put a grey image in its place."""
    group = Group("error", "image", split.name, "images whose header is sound and whose content is not", "a grey image takes their place")
    for path, look in split.looks.items():
        if look.fault:
            group.add(path, look.fault)
    return group


def _unlabelled(split: Split) -> Iterator[Group]:
    if split.sources.jsons:
        return
    missing = Group("warning", "unlabelled", split.name, "images without a label file", "they count as images without objects")
    empty = Group("note", "background", split.name, "images with a label file that has no rows", "they count as images without objects")
    labelled = {str(item.image) for item in split.sources.items if item.label}
    for path in split.table.paths:
        if path not in labelled:
            missing.add(path, "no label file")
        elif path in split.labels and not split.labels[path][1].strip():
            empty.add(split.labels[path][0], "no rows")
    yield missing
    yield empty


def _strays(splits: Sequence[Split]) -> Iterator[Group]:
    """Label files without an image, in the folders that labels of the splits lie in; and images that share one."""
    stray = Group("warning", "stray", "", "label files without an image", "they are never read")
    shared = Group("warning", "stray", "", "images that share a label file", "give them different names")
    stems: defaultdict[str, set[str]] = defaultdict(set)
    used: defaultdict[str, set[str]] = defaultdict(set)
    for split in splits:
        for folder in {os.path.dirname(file) for file in split.table.files}:  # noqa: PTH120
            names = {os.path.splitext(name)[0] for name in _listed(folder) if is_image_name(name)}  # noqa: PTH122
            for place in label_folders(Path(folder)):
                stems[str(place)] |= names
        for image, (label, _) in split.labels.items():
            used[str(label)].add(os.path.realpath(image))
            stems[str(label.parent)].add(label.stem)
    for folder in sorted({os.path.dirname(path) for path in used}):  # noqa: PTH120
        for name in sorted(_listed(folder)):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            if suffix in LABEL_SUFFIXES and stem not in stems[folder] and stem.lower() not in _NO_LABELS:
                stray.add(os.path.join(folder, name), f"no image is called {stem}")  # noqa: PTH118
    for path, images in used.items():
        if len(images) > 1:
            shared.add(path, f"belongs to {', '.join(sorted(map(os.path.basename, images)))}")
    yield stray
    yield shared


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")  # noqa: PTH208
    except OSError:
        return []


def _classes(data: DataConfig, splits: Sequence[Split]) -> Iterator[Group]:
    counts = {split.name: np.bincount(split.table.rows[:, 0].astype(np.int64), minlength=data.nc) for split in splits}
    unused = Group("warning", "class", "", "classes without a single box", "are the names right?")
    for number in np.flatnonzero(sum(counts.values()) == 0).tolist() if counts else ():
        unused.add(data.yaml, f"class {number} ({data.names[number]})")
    yield unused
    for name, mine in counts.items():
        advice = "they are never learnt" if name == "train" else "nothing is measured for them"
        absent = Group("warning", "class", name, "classes that other splits have and this one has not", advice)
        for number in np.flatnonzero((sum(counts.values()) > 0) & (mine == 0)).tolist():
            others = ", ".join(f"{other} {count[number]}" for other, count in counts.items() if count[number])
            absent.add(data.yaml, f"class {number} ({data.names[number]}): boxes in {others}")
        yield absent


def _boxes(split: Split, imgsz: int, names: Mapping[int, str]) -> Iterator[Group]:
    tiny = Group("warning", "tiny", split.name, f"boxes with a side below {TINY:g} pixels at --imgsz {imgsz}", "they are hardly learnt")
    sides = box_pixels(split, imgsz)
    for row in np.flatnonzero((sides.min(1, initial=imgsz) < TINY) & ~split.table.crowds).tolist():
        path, line = split.place(row)
        tiny.add(path, f"{_box(split, row, names)} is {sides[row, 0]:.1f} x {sides[row, 1]:.1f} pixels", line)
    yield tiny
    twice = Group("warning", "overlap", split.name, "boxes of one class that cover each other", "is it one object?")
    unsure = Group("warning", "overlap", split.name, "boxes of two classes that cover each other", "which is it?")
    for a, b, overlap in _overlaps(split):
        path, line = split.place(b)
        same = split.table.rows[a, 0] == split.table.rows[b, 0]
        (twice if same else unsure).add(path, f"{_box(split, b, names)} and {_box(split, a, names)} have an IoU of {overlap:.2f}", line)
    yield twice
    yield unsure


def _box(split: Split, row: int, names: Mapping[int, str]) -> str:
    cls, x, y = split.table.rows[row, :3].tolist()
    return f"{names[int(cls)]} at {x:.3f} {y:.3f}"


def _overlaps(split: Split, least: float = 0.9) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of rows of one image with at least that IoU.

    Sorted by their left sides, such boxes are near each other; of more than a few hundred in a row, some pairs are passed over.
    """
    table = split.table
    for first, last in zip(table.starts[:-1].tolist(), table.starts[1:].tolist(), strict=True):
        drawn = np.flatnonzero(~table.crowds[first:last]) + first
        if len(drawn) < 2:
            continue
        centre, half = table.rows[drawn, 1:3].astype(np.float64), table.rows[drawn, 3:5].astype(np.float64) / 2
        box = np.concatenate((centre - half, centre + half), 1)
        order = np.argsort(box[:, 0], kind="stable")
        drawn, box = drawn[order], box[order]
        for lag in range(1, min(len(box), 200)):
            overlap = _iou(box[:-lag], box[lag:])
            for at in np.flatnonzero(overlap >= least).tolist():
                a, b = sorted((int(drawn[at]), int(drawn[at + lag])))
                yield a, b, float(overlap[at])
            if (box[lag:, 0] >= box[:-lag, 2]).all():
                break


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of (k, 4) xyxy boxes, row by row."""
    inner = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(0).prod(1)
    return inner / np.maximum((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inner, 1e-12)


def _traits(split: Split) -> Iterator[Group]:
    odd = Group("note", "format", split.name, "images that are not plain RGB of the format they are called", "they are read all the same")
    for path, look in split.looks.items():
        if look.traits[1:]:
            odd.add(path, ", ".join(look.traits))
    yield odd


def _paths(split: Split) -> Iterator[Group]:
    odd = Group("warning", "path", split.name, "file names that other tools or systems may not take")
    folded: dict[str, str] = {}
    for path in split.table.files:
        name = os.path.basename(path)  # noqa: PTH119
        if not name.isprintable():
            odd.add(path, "control characters, or bytes that are not UTF-8")
        elif name != name.strip() or set(name) & set('<>:"|?*\\'):
            odd.add(path, 'blanks at its ends, or one of < > : " | ? * \\')
        elif (other := folded.setdefault(path.casefold(), path)) != path:
            odd.add(path, f"differs from {os.path.basename(other)} in case only")  # noqa: PTH119
    yield odd
