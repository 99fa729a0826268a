"""What a run saves and when: last.pt and best.pt after an epoch, last.pt within an epoch and when a signal asks to stop."""

from __future__ import annotations

import copy
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.detector import Detector
from utils.distributed import gather, max_over_ranks
from utils.errors import StopError, StorageError
from utils.evaluation.evaluate import Evaluation
from utils.log import LOG
from utils.signals import StopRequest
from utils.training.checkpoint import LAST, PREVIOUS, load_checkpoint, save_checkpoint
from utils.training.fade import without_replaced
from utils.training.nonfinite import is_finite
from utils.training.run_state import Run
from utils.training.state import START, Position

_SAVE, _STOP = 1, 2


class CheckpointScheduler:
    """Decides after each optimizer step whether to save and whether to stop.

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
        self._last_save = time.monotonic()

    def begin_epoch(self, epoch: int) -> Position:
        """Return where in the epoch to begin. A new run is saved here once: from then on it can be resumed.

        Raises:
            StopError: a signal has asked to stop; everything is saved.
        """
        if epoch != self._epoch:
            self._set_epoch(epoch)
        if self._unsaved and not self._run.config.nosave:
            self._save()
        self.poll()
        return Position(self._batch, tuple(self._sums.tolist()))

    def after_step(self, batch: int, sums: Tensor) -> None:
        """Note an optimizer step within the epoch, see `state.OnStep`.

        Raises:
            StopError: a signal has asked to stop; everything is saved.
        """
        self._batch, self._sums, self._unsaved = batch, sums, True
        run = self._run
        timed = run.ranks.first and self._interval > 0 and not run.config.nosave
        self.poll(save=timed and time.monotonic() - self._last_save >= self._interval)

    def poll(self, *, save: bool = False) -> None:
        """Save if any rank wants to `save`, and stop if any rank got a signal.

        Raises:
            StopError: one did; everything is saved.
        """
        run = self._run
        wish = _STOP if self._request.by else _SAVE if save else 0
        wish = max_over_ranks(wish, run.state.precision.device, run.ranks)
        if wish and self._unsaved:
            self._save()
        if wish == _STOP:
            by = f"by {self._request.by}" if self._request.by else "with another rank"
            where = f"in epoch {self._epoch} before batch {self._batch} of {len(run.loader)}"
            where = "after the last epoch" if self._epoch >= run.config.epochs else where
            raise StopError(f"stopped {by} {where}; to resume: python train.py --resume {run.folder}" if run.ranks.first else "")

    def leave_validation(self) -> bool:
        """Whether to leave a validation, which the resumed run repeats.

        A single process leaves at once. One of several goes on to where all of them `poll`.

        Raises:
            StopError: a signal has asked to stop; everything is saved.
        """
        if self._request.by and self._run.ranks.world_size == 1:
            self.poll()
        return bool(self._request.by)

    def end_epoch(self, *, saved: bool) -> None:
        """Note that the epoch is done, and whether it is `saved`."""
        self._set_epoch(self._epoch + 1)
        self._unsaved = not saved
        if saved:
            self._last_save = time.monotonic()

    def _set_epoch(self, epoch: int) -> None:
        self._epoch, self._batch, self._sums = epoch, 0, torch.tensor(START.sums)

    def _save(self) -> None:
        """Save the position with every rank's sums, unless that is not possible now: then the next save tries again.

        A non-finite state is not saved: the next step finds and handles it.

        Raises:
            StorageError: it cannot be written, and a signal has asked to stop.
        """
        run = self._run
        sums, saved = gather(self._sums.tolist(), run.ranks), True
        if run.ranks.first:
            try:
                saved = is_finite(run.state)
                if saved:
                    write_pending(run)
                    payload, folder = _payload(run, self._epoch - 1, None), run.folder / "weights"
                    payload["resume"] |= {"batch": self._batch, "sums": sums}
                    save_checkpoint(folder / LAST, payload, previous=folder / PREVIOUS)
            except StorageError as error:
                if self._request.by:
                    raise
                saved = False
                record_unsaved(run, error, self._epoch)
        self._unsaved = not gather(saved, run.ranks)[0]
        self._last_save = time.monotonic()


def save_epoch(run: Run, epoch: int, result: Evaluation | None, *, best: bool, last: bool) -> None:
    """Write the checkpoints of an epoch: last.pt, to resume from, and best.pt, which holds the EMA's weights only.

    Raises:
        StorageError: a file cannot be written; what it held before is kept.
    """
    config, folder = run.config, run.folder / "weights"
    payload, path = _payload(run, epoch, result), folder / "best.pt"
    # --nosave keeps one epoch only; a best.pt that --exist-ok found here is another run's
    if best or (last and (config.nosave or not path.exists())):
        run.pending.pop("best", None)  # these weights are better
        try:
            write_pending(run)
            save_checkpoint(path, ema_only(payload))
        except StorageError:  # training changes the weights meanwhile
            run.pending["best"] = functools.partial(save_checkpoint, path, copy.deepcopy(ema_only(payload)))
            raise
    else:
        write_pending(run)
    if config.save_period > 0 and epoch % config.save_period == 0:
        save_checkpoint(folder / f"epoch{epoch}.pt", payload)
    save_checkpoint(folder / LAST, payload, previous=folder / PREVIOUS)


def write_pending(run: Run) -> None:
    """Repeat failed writes: no checkpoint may rely on a row or on best weights that are on no disk.

    Raises:
        StorageError: one failed again.
    """
    for name, write in list(run.pending.items()):
        write()
        del run.pending[name]


def record_unsaved(run: Run, error: StorageError, epoch: int) -> None:
    """Warn of a failed save that is tried again."""
    run.state.events.record("not saved", f"{error}. Training goes on, and the next save tries again", epoch=epoch)


def ema_only(payload: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint for inference: the EMA's weights as the model's, without replaced blocks, and nothing to resume from."""
    return without_replaced(payload | {"model": payload["ema"], "ema": None, "resume": None})


def strip_finished(folder: Path) -> None:
    """Leave in a finished run's last.pt the EMA's weights only, and remove last.prev.pt: a third of the size is left.

    What shows that the run is finished stays.
    """
    weights = folder / "weights"
    payload = load_checkpoint(weights / LAST)
    kept = {name: payload["resume"][name] for name in ("best", "best_epoch", "batch")}
    try:
        save_checkpoint(weights / LAST, ema_only(payload) | {"resume": kept | {"stripped": True}})
        (weights / PREVIOUS).unlink(missing_ok=True)
    except (StorageError, OSError) as error:
        LOG.warning("%s is not stripped of what resuming needs (%s)", weights / LAST, error)


def plain_settings(config: Any) -> dict[str, Any]:
    """Settings as plain data for YAML files and checkpoints."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def _payload(run: Run, epoch: int, result: Evaluation | None) -> dict[str, Any]:
    state, model = run.state, run.state.model
    assert isinstance(model, Detector)
    return {
        "spec": model.spec.to_dict(),
        "names": dict(model.names),
        "model": model.state_dict(),
        "ema": state.ema.module.state_dict(),
        "config": plain_settings(run.config),
        "hyp": dataclasses.asdict(run.hyp),
        "epoch": epoch,  # the last complete one, -1 if there is none
        "metrics": result.metrics.summary() if result else {},
        "resume": {
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict(),
            "updates": state.ema.updates,
            "box_loss": state.criterion.box_loss.state(),
            "best": run.stopping.best,
            "best_epoch": run.stopping.epoch,
            "ap": run.ap,
            "batch": 0,  # the next one, in the epoch after `epoch`
            "sums": [],
            "steps": len(run.loader),
            "data": run.data,
            "versions": run.versions,
            "plugins": run.plugins,
        },
    }
