"""When a run has seen its best epoch."""

from __future__ import annotations

import dataclasses


def fitness(ap50: float, ap: float) -> float:
    """The figure that picks the best epoch: a tenth AP50, nine tenths AP."""
    return 0.1 * ap50 + 0.9 * ap


@dataclasses.dataclass(slots=True)
class EarlyStop:
    """Counts the epochs since the best one.

    Attributes:
        patience: epochs without a strict gain after which training stops; 0 never stops.
        best: best fitness so far, below any possible one at the start.
        epoch: the epoch of it.
    """

    patience: int
    best: float = -1.0
    epoch: int = 0

    def gains(self, epoch: int, value: float) -> bool:
        """Take in the fitness of `epoch`; return whether it is at least the best so far, a tie counting as newer."""
        tie = value == self.best
        if value > self.best:
            self.best, self.epoch = value, epoch
            return True
        return tie

    def spent(self, epoch: int) -> bool:
        """Whether `epoch` was the last one worth training; with ``--noval`` nothing tells."""
        measured = self.best >= 0
        return measured and self.patience > 0 and epoch - self.epoch >= self.patience
