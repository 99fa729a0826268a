"""Putting a stopped run's state back: to the bit where data, settings and code are those of the run, and said where not."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from utils.data.fingerprint import data_changes
from utils.distributed import gather
from utils.errors import UserError
from utils.files.checksum import is_whole
from utils.log import LOG
from utils.training.checkpoint import save_checkpoint
from utils.training.engine import START, TERMS, Position
from utils.training.record import LAST, PREVIOUS, averaged
from utils.training.resume import Stopped
from utils.training.rollback import take_up

if TYPE_CHECKING:
    from pathlib import Path

    from utils.training.trainer import Run


def restore(run: Run, stopped: Stopped) -> None:
    """Put back everything that an epoch leaves to the next one; the model has its weights already.

    Raises:
        UserError: the data have changed, and ``--resume-anyway`` was not given; or the state does not fit the model.
    """
    state = stopped.payload["resume"]
    run.start, run.done = stopped.epoch, stopped.finished
    # else last.pt is of another place, or of settings that would be forgotten with the next kill
    run.resumed = stopped.folder is not None and stopped.path.name in (LAST, PREVIOUS) and not stopped.changed
    with readable(stopped):
        _check_data(run, stopped)
        _restore(run, stopped, state)
        _compare_versions(run, state)


def _restore(run: Run, stopped: Stopped, state: dict[str, Any]) -> None:
    trainee = run.trainee
    take_up(trainee, stopped.payload)
    run.stop.best, run.stop.epoch, run.ap = state["best"], state["best_epoch"], state["ap"]
    run.position = _position(run, state)
    moments = ((p, v) for p, values in trainee.optimizer.state.items() for v in values.values())
    if any(isinstance(v, torch.Tensor) and v.ndim and v.shape != p.shape for p, v in moments):
        raise ValueError("the optimizer's state is of other shapes than the weights")


@contextlib.contextmanager
def readable(stopped: Stopped) -> Iterator[None]:
    """While the parts of a checkpoint are put to use: whatever cannot be is the checkpoint's fault, which may be a stranger's.

    Raises:
        UserError: its state does not fit.
    """
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(
            f"{stopped.path}: its state does not fit its model ({reason}); start from it with --weights {stopped.path}"
        ) from error


def _check_data(run: Run, stopped: Stopped) -> None:
    before = stopped.payload["resume"].get("data", {})
    changes = [text for split in before for text in data_changes(split, before[split], run.data[split])]
    if changes and not stopped.config.resume_anyway:
        raise UserError(f"--data {run.config.data}: {'; '.join(changes)}. --resume-anyway goes on with the new data all the same")
    stopped.changes.extend(changes)


def _position(run: Run, state: dict[str, Any]) -> Position:
    """Where the first epoch begins: at its start if its batches are no longer those they were."""
    batch, ranks = state.get("batch", 0), run.ranks
    if not batch:
        return START
    sums = [[float(value) for _, value in zip(TERMS, values, strict=True)] for values in state["sums"]]
    if state["steps"] != len(run.loader):
        LOG.warning("an epoch has %d batches and had %d; epoch %d begins anew", len(run.loader), state["steps"], run.start)
        return START
    if len(sums) == ranks.world_size:
        return Position(batch, tuple(sums[ranks.rank]))
    LOG.warning("going on with %d processes in place of %d: the result will not be the same to the bit", ranks.world_size, len(sums))
    totals = tuple(map(sum, zip(*sums, strict=True)))
    return Position(batch, totals if ranks.first else START.sums)


def _compare_versions(run: Run, state: dict[str, Any]) -> None:
    before = state.get("versions", {})
    other = [f"{k} {v} ({before[k]} before)" for k, v in run.versions.items() if before.get(k, v) != v]
    if other:
        LOG.warning("other code than the run's: %s; the result may not be the same to the bit", ", ".join(other))


def note_changes(folder: Path, stopped: Stopped) -> None:
    """Add to resumed.txt what ``--resume-anyway`` made of no account, if anything."""
    if stopped.changes:
        batch = stopped.payload["resume"].get("batch", 0)
        lines = [f"epoch {stopped.epoch}, batch {batch}: went on from {stopped.path} although", *(f"  {c}" for c in stopped.changes)]
        with (folder / "resumed.txt").open("a", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))
        LOG.warning("%s", "\n".join(lines))


def bring_best(run: Run, stopped: Stopped) -> None:
    """See to it that best.pt is there if an epoch so far earned it; where it is lost or damaged, say so and begin to look anew.

    Any other damaged checkpoint is renamed.
    """
    if run.ranks.first:
        _set_aside_damaged(run.folder / "weights")
    lost = _bring_best(run, stopped) if run.ranks.first and not run.config.nosave else False
    if gather(lost, run.ranks)[0]:
        run.stop.best, run.stop.epoch = -1.0, 0


def _bring_best(run: Run, stopped: Stopped) -> bool:
    """Bring best.pt into the run folder; return whether it is lost."""
    path = run.folder / "weights" / "best.pt"
    if stopped.moved and stopped.origin and (best := stopped.origin / "weights" / "best.pt").is_file():
        shutil.copyfile(best, path)
    if run.stop.best < 0 or (path.is_file() and is_whole(path)):
        return False
    payload, state = stopped.payload, stopped.payload["resume"]
    if run.done or (payload["epoch"] == run.stop.epoch and not state.get("batch")):
        LOG.warning("%s is missing or damaged; it is written again from %s", path, stopped.path)
        save_checkpoint(path, averaged(payload))
        return False
    LOG.warning("%s is missing or damaged; the best epoch from here on takes its place", path)
    return True


def _set_aside_damaged(folder: Path) -> None:
    """Rename damaged checkpoints: the next save would put last.pt in the place of the one before it, from which the run goes on."""
    for path in (folder / LAST, folder / PREVIOUS):
        if path.is_file() and not is_whole(path):
            path.replace(path.with_suffix(".damaged"))
