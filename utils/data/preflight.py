"""What is wrong with a dataset as a whole, before anything is trained or measured on it: one check for train, val, doctor and compare."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from utils.data.config import DataConfig
from utils.data.index import Index
from utils.errors import UserError
from utils.log import LOG


class Problem(NamedTuple):
    """One line about one split; an error is one that makes the run meaningless."""

    severity: Literal["error", "warning"]
    split: str
    text: str


def check(data: DataConfig, indices: Mapping[str, Index], *, must_measure: bool = False) -> None:
    """Log what is wrong with the splits that a run uses, a line each, and refuse a run that is meaningless.

    Args:
        indices: the index of each split: "train" is trained on, the others are measured on.
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
    for split, index in indices.items():
        if not index.report.boxes:
            why = "trained on" if split == "train" else "measured: AP will be NaN"
            yield Problem("error" if must_measure or split == "train" else "warning", split, f"'{split}' has no box; nothing can be {why}")
    trained = set(_resolved(indices["train"])) if "train" in indices else set()
    for split, index in indices.items():
        shared = 0 if split == "train" else sum(path in trained for path in _resolved(index))
        if shared:
            which = f"all {shared}" if shared == len(index) else f"{shared} of {len(index)}"
            yield Problem("warning", split, f"{which} images of '{split}' are trained on too; what is measured on them is too good")


def _resolved(index: Index) -> list[str]:
    """Return the images' paths with links to their folders followed."""
    folders = {folder: os.path.realpath(folder) for folder in {path.parent for path in index.paths}}
    return [f"{folders[path.parent]}/{path.name}" for path in index.paths]
