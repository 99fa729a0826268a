"""Trains with one of Attune's deviations from YOLOv5 undone, for ``python -m benchmarks.accuracy``.

python -m benchmarks.accuracy.deviations NAME FLAGS      flags of train.py, and --workers 0: the loader has to be in this process
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def last_write() -> None:
    """Of several matches of a cell, the last one written is the objectness target, not the maximum."""
    import torch

    def scatter(target: Tensor, dim: int, index: Tensor, src: Tensor, _reduce: str) -> Tensor:
        return target.scatter_(dim, index, src)

    torch.Tensor.scatter_reduce_ = scatter  # type: ignore[assignment]


def dropped_remainder() -> None:
    """Gradients that are left over at the end of an epoch are dropped, while their batches count for the next epoch's first step."""
    from utils.training.nonfinite import AccumulatedBatches, NonFiniteGuard, Verdict

    check, carried = NonFiniteGuard.check, [0]

    def dropping(self: NonFiniteGuard, accumulated: AccumulatedBatches, norm: Tensor) -> Verdict:
        schedule, epoch, count = self._state.schedule, accumulated.epoch, len(accumulated)
        due = schedule.at(epoch * schedule.steps + accumulated.batches[-1][0], epoch).accumulate
        carried[0] = count if count < due else 0
        if not carried[0]:
            return check(self, accumulated, norm)
        self._state.optimizer.zero_grad(set_to_none=True)
        return Verdict.SKIP

    NonFiniteGuard.check = dropping  # type: ignore[method-assign]
    AccumulatedBatches.__len__ = lambda self: len(self.batches) + carried[0]  # type: ignore[method-assign]


def exact_decoding() -> None:
    """Training images are decoded in full and scaled as for validation."""
    from utils.data.loading import image_store

    load = image_store.load

    def exact(path: Path, size: image_store.Size, **_: Any) -> image_store.Image:
        return load(path, size, exact=True)

    image_store.load = exact  # type: ignore[assignment]


UNDO: dict[str, Callable[[], None]] = {
    "last-write": last_write,
    "dropped-remainder": dropped_remainder,
    "exact-decoding": exact_decoding,
}


def main() -> None:
    """Undo and train."""
    name, *flags = sys.argv[1:]
    if name in UNDO:
        UNDO[name]()
    import train

    train.main(flags)


if __name__ == "__main__":
    main()
