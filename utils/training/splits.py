"""The training and validation splits of a dataset."""

from __future__ import annotations

import dataclasses

from utils.config import TrainConfig
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.preflight import check
from utils.data.scan import load_index
from utils.distributed import Ranks, barrier


@dataclasses.dataclass(frozen=True, slots=True)
class Splits:
    """The images and annotations to train and to validate on."""

    train: Index
    val: Index

    @property
    def names(self) -> dict[int, str]:
        """Class names by id."""
        return self.train.names


def open_splits(config: TrainConfig, ranks: Ranks) -> Splits:
    """Read and verify both splits; the first rank scans, the others then find its cache.

    Raises:
        UserError: the dataset is missing or has no boxes to train on.
    """
    if not ranks.first:
        barrier(ranks)
    data = load_data(config.data)
    train, val = (load_index(data, split, single_cls=config.single_cls, classes=config.classes) for split in ("train", "val"))
    if ranks.first:
        train.report.log()
        val.report.log()
        barrier(ranks)
        check(data, {"train": train, "val": val})
    train.report.require_boxes()  # the other ranks, which do not check
    return Splits(train, val)
