"""When a run is saved within an epoch, and how it ends when a signal asks for that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from utils.distributed import gather, largest_over_ranks
from utils.errors import StopError, StorageError
from utils.signals import StopRequest
from utils.training.engine import START, Position
from utils.training.nonfinite import sound
from utils.training.record import save_position

if TYPE_CHECKING:
    from utils.training.trainer import Run

_SAVE, _STOP = 1, 2


class Keeper:
    """Looks after each optimizer step whether to save and whether to stop.

    Every rank has one and calls it in the same places; they decide together.

    Args:
        run: what is saved.
        request: the signals that came.
    """

    def __init__(self, run: Run, request: StopRequest) -> None:
        self._run, self._request = run, request
        self._epoch, self._batch = run.start, run.position.batch
        self._sums = torch.tensor(run.position.sums)
        self._unsaved = not run.resumed
        self._interval = run.config.save_interval * 60
        self._last = time.monotonic()

    def begin(self, epoch: int) -> Position:
        """Enter an epoch; return where in it to begin. A new run is saved here once: from then on there is something to resume.

        Raises:
            StopError: a signal has asked to stop; everything is saved.
        """
        if epoch != self._epoch:
            self._enter(epoch)
        if self._unsaved and not self._run.config.nosave:
            self._save()
        self.look()
        return Position(self._batch, tuple(self._sums.tolist()))

    def stepped(self, batch: int, sums: Tensor) -> None:
        """Note an optimizer step within the epoch, see `engine.Stepped`.

        Raises:
            StopError: a signal has asked to stop; everything is saved.
        """
        self._batch, self._sums, self._unsaved = batch, sums, True
        self.look(save=self._is_due())

    def look(self, *, save: bool = False) -> None:
        """Save if any rank wants to `save`, and stop if a signal has asked any rank to.

        Raises:
            StopError: it has; everything is saved.
        """
        run = self._run
        wish = _STOP if self._request.by else _SAVE if save else 0
        wish = largest_over_ranks(wish, run.trainee.precision.device, run.ranks)
        if wish and self._unsaved:
            self._save()
        if wish == _STOP:
            raise StopError(f"stopped {self._where()}; to go on: python train.py --resume {run.folder}" if run.ranks.first else "")

    def leaves(self) -> bool:
        """Whether to leave a validation, which is done anew when the run goes on.

        A single process leaves at once. One of several goes on to where all of them `look`.

        Raises:
            StopError: a signal has asked to stop; everything is saved.
        """
        if self._request.by and self._run.ranks.world_size == 1:
            self.look()
        return bool(self._request.by)

    def finish(self, *, saved: bool) -> None:
        """Note that the epoch is done and written down, and whether it is `saved`."""
        self._enter(self._epoch + 1)
        self._unsaved = not saved
        if saved:
            self._last = time.monotonic()

    def _enter(self, epoch: int) -> None:
        self._epoch, self._batch, self._sums = epoch, 0, torch.tensor(START.sums)

    def _is_due(self) -> bool:
        run = self._run
        timed = run.ranks.first and self._interval > 0 and not run.config.nosave
        return timed and time.monotonic() - self._last >= self._interval

    def _save(self) -> None:
        """Save, unless that cannot be done now: then the checkpoint before still stands, and the next save tries again.

        Raises:
            StorageError: it cannot be done, and a signal has asked to stop.
        """
        sums, failed = gather(self._sums.tolist(), self._run.ranks), False
        if self._run.ranks.first:
            try:
                failed = not self._save_position(sums)
            except StorageError as error:
                if self._request.by:
                    raise
                failed = True
                self._run.trainee.events.record(
                    "not saved", f"{error}. Training goes on, and tries again at the next save", epoch=self._epoch
                )
        self._unsaved = gather(failed, self._run.ranks)[0]
        self._last = time.monotonic()

    def _save_position(self, sums: list[list[float]]) -> bool:
        """Save where the epoch stands; False where the state is not finite, which the next step finds too and sees to."""
        if not sound(self._run.trainee):
            return False
        save_position(self._run, self._epoch, self._batch, sums)
        return True

    def _where(self) -> str:
        by = f"by {self._request.by}" if self._request.by else "with another rank"
        if self._epoch >= self._run.config.epochs:
            return f"{by} after the last epoch"
        return f"{by} in epoch {self._epoch} before batch {self._batch} of {len(self._run.loader)}"
