"""What is wrong with a dataset as a whole, before anything is trained or measured on it: one check for train, val, doctor and compare."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.data.config import DataConfig
from utils.data.index import Index
from utils.data.labels.match_names import normalised
from utils.data.layouts import unused_json
from utils.errors import UserError
from utils.log import LOG


class Problem(NamedTuple):
    """One line about one split; an error is one that makes the run meaningless."""

    severity: Literal["error", "warning"]
    kind: Literal["box", "names", "suffix", "keypoints", "overlap"]
    split: str
    text: str


def check(data: DataConfig, indices: Mapping[str, Index], *, must_measure: bool = False) -> None:
    """Log what is wrong with the splits that a run uses, a line each, and refuse a run that is meaningless.

    Args:
        indices: the index of each split: "train" (and "all", which is every split) is trained on, the others are measured on.
        must_measure: whether a split without an object to measure is refused.

    Raises:
        UserError: the first error.
    """
    for problem in find_problems(indices, must_measure=must_measure):
        if problem.severity == "error":
            raise UserError(f"{data.yaml}: {problem.text}")
        LOG.warning("%s: %s", data.yaml, problem.text)


def find_problems(indices: Mapping[str, Index], *, must_measure: bool = False) -> list[Problem]:
    """Return what `check` reports, errors first."""
    return sorted(_problems(indices, must_measure), key=lambda problem: problem.severity)


def _problems(indices: Mapping[str, Index], must_measure: bool) -> Iterator[Problem]:
    images = {normalised(path.stem) for index in indices.values() for path in index.paths}  # splits may share a folder of labels
    for split, index in indices.items():
        found = index.report
        if not found.boxes:
            trained = split in ("train", "all")
            text = f"'{split}' has no box to {'train on' if trained else 'measure, so AP will be NaN'}: {found.why_no_box()}"
            if found.unlabelled == found.images > 0:
                text += unused_json(index.paths[0].parent)
            yield Problem("error" if must_measure or trained else "warning", "box", split, text)
        elif found.unlabelled and (strays := [path for path in found.strays if normalised(Path(path).stem) not in images]):
            text = f"{found.unlabelled} images of '{split}' have no label file, and {len(strays)} label files belong to no image"
            yield Problem("warning", "names", split, f"{text} (the first is {strays[0]}); a label file is named as its image")
        if found.passed_over:
            text = f"{len(found.passed_over)} files of '{split}' hold an image and are not read, because of their suffix"
            yield Problem("warning", "suffix", split, f"{text} (the first is {found.passed_over[0]}); convert them to JPEG or PNG")
        if _are_keypoints(index):
            text = f"the polygons of '{split}' are a box each, and points inside it; if these are key points, the data YAML needs kpt_shape"
            yield Problem("warning", "keypoints", split, text)
    seen = set(_resolved(indices["train"])) if "train" in indices else set()
    for split, index in indices.items():
        shared = 0 if split == "train" else sum(path in seen for path in _resolved(index))
        if shared:
            which = f"all {shared}" if shared == len(index) else f"{shared} of {len(index)}"
            text = f"{which} images of '{split}' are trained on too, so what is measured is too good"
            yield Problem("warning", "overlap", split, f"{text}; python -m utils.data.holdout holds some out")


def _resolved(index: Index) -> list[str]:
    """Return the images' paths with links to their folders followed."""
    folders = {folder: os.path.realpath(folder) for folder in {path.parent for path in index.paths}}
    return [f"{folders[path.parent]}/{path.name}" for path in index.paths]


def _are_keypoints(index: Index) -> bool:
    """Whether every polygon, read as centre, size and points (x, y or x, y, visible), is a box in the image that holds the points.

    A polygon starts at a corner, so this cannot be for many; 200 are looked at.
    """
    polygons = np.flatnonzero(np.diff(index.point_starts))
    chosen = polygons[:: max(len(polygons) // 200, 1)]
    return len(chosen) > 0 and all(_is_keypoint_row(index.points[slice(*index.point_starts[i : i + 2])].ravel()) for i in chosen)


def _is_keypoint_row(numbers: NDArray[np.float32], slack: float = 0.01) -> bool:
    low, high = numbers[:2] - numbers[2:4] / 2 - slack, numbers[:2] + numbers[2:4] / 2 + slack
    if low.min() < -2 * slack or high.max() > 1 + 2 * slack:
        return False
    for width in (2, 3):
        points = numbers[4:].reshape(-1, width) if len(numbers[4:]) % width == 0 else numbers[:0].reshape(0, width)
        seen = points[(points[:, :2] != 0).any(1)]  # key points that are not labelled are 0 0
        if len(seen) and ((seen[:, :2] >= low) & (seen[:, :2] <= high)).all() and np.isin(points[:, 2:], (0, 1)).all():
            return True
    return False
