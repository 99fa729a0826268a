"""The dataset of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """A split of the dataset: number of images and objects, and a digest of both."""

    images: int
    objects: int
    digest: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataPlan:
    """The dataset of the study.

    Attributes:
        source: path of the dataset's YAML.
        names: the class names.
        splits: "train", "val", and "test" if there is one.
        measured: the split that figures are reported on: "test" if there is one (epochs are selected on val), else "val".
        overlap: number of measured images that are also trained on; no gain can be claimed on them.
        group: of ``--group``, how the measured images are grouped, or "".
        groups: for each measured image the number of its group; empty without `group`. With `folds` for each image of train and val, which
            are those of `group`, or copies of one image.
        folds: number of folds of train and val together, see `utils.compare.folds`; 0 for none.
    """

    source: str
    names: tuple[str, ...]
    splits: Mapping[str, SplitPlan]
    measured: str
    overlap: int = 0
    group: str = ""
    groups: tuple[int, ...] = ()
    folds: int = 0

    def images(self, split: str) -> int:
        """Number of images of a split; with folds of those that a run trains on, or is measured on, on average."""
        if not self.folds:
            return self.splits[split].images
        held_out = round(len(self.groups) / self.folds)
        return len(self.groups) - held_out if split == "train" else held_out
