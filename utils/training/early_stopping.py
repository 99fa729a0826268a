"""Fitness, and whether training has seen its best epoch."""

from __future__ import annotations

import dataclasses
import math


def fitness(ap50: float, ap: float) -> float:
    """The figure that picks the best epoch: 0.1 AP50 + 0.9 AP."""
    return 0.1 * ap50 + 0.9 * ap


@dataclasses.dataclass(slots=True)
class EarlyStopping:
    """Counts the epochs since the best one.

    Attributes:
        patience: epochs without improvement after which training stops; 0 never stops.
        best: fitness of the best epoch so far; -1 before the first one that could be measured.
        epoch: the best epoch.
    """

    patience: int
    best: float = -1.0
    epoch: int = 0

    def update(self, epoch: int, value: float) -> bool:
        """Note the fitness of `epoch`; return whether it is the best so far. A tie counts, but is no improvement.

        Where nothing can be measured (NaN), the last epoch is the best.
        """
        if math.isnan(value):
            self.epoch = epoch
            return True
        if value > self.best:
            self.best, self.epoch = value, epoch
        return value == self.best

    def should_stop(self, epoch: int) -> bool:
        """Whether training stops after `epoch`; never with ``--noval``."""
        return self.best >= 0 and self.patience > 0 and epoch - self.epoch >= self.patience
