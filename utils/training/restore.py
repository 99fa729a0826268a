"""Restoring a stopped run: to the bit where data, settings and code are the run's, and with a warning where they are not."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from utils.data.fingerprint import data_changes
from utils.distributed import gather
from utils.errors import UserError
from utils.files.atomic import atomic_write, open_append
from utils.files.checksum import has_valid_checksum
from utils.log import LOG, escaped
from utils.training.checkpoint import LAST, PREVIOUS, load_checkpoint, save_checkpoint
from utils.training.checkpointing import ema_only
from utils.training.resume import StoppedRun, newest_checkpoint
from utils.training.run_state import Run
from utils.training.state import START, TERMS, Position, TrainState

_ALIKE = ((int, float), (bool, type(None)))
"""Types of an optimizer's options that may stand for each other: whether it is fused depends on the device."""


def restore_run(run: Run, stopped: StoppedRun) -> None:
    """Restore everything that carries over between epochs; the model has its weights already.

    Raises:
        UserError: the data have changed, and ``--resume-anyway`` was not given; or the state does not fit the model.
    """
    resume = stopped.payload["resume"]
    run.start, run.done = stopped.epoch, stopped.finished
    # otherwise last.pt belongs to another folder, or holds settings that a kill would bring back
    run.resumed = stopped.folder is not None and stopped.path.name in (LAST, PREVIOUS) and not stopped.changed
    with refusing_unfit(stopped):
        before = resume.get("data", {})
        changes = [text for split in before for text in data_changes(split, before[split], run.data[split])]
        if changes and not stopped.config.resume_anyway:
            raise UserError(f"--data {run.config.data}: {'; '.join(changes)}. --resume-anyway resumes with the new data")
        stopped.changes.extend(changes)
        restore_optimization(run.state, stopped.payload)
        run.stopping.best, run.stopping.epoch, run.ap = resume["best"], resume["best_epoch"], resume["ap"]
        run.position = _position(run, resume)
        moments = ((p, v) for p, values in run.state.optimizer.state.items() for v in values.values())
        if any(isinstance(v, torch.Tensor) and v.ndim and v.shape != p.shape for p, v in moments):
            raise ValueError("the optimizer's state has other shapes than the weights")
        before = resume.get("versions", {})
        other = [f"{k} {v} ({before[k]} before)" for k, v in run.versions.items() if before.get(k, v) != v]
        if other:
            LOG.warning("other code or machine than the run's: %s; the result may not be the same to the bit", ", ".join(other))


def restore_newest(state: TrainState, folder: Path) -> tuple[int, int] | None:
    """Restore weights, EMA, optimizer and loss scale from the newest whole checkpoint of a run folder, in all ranks alike.

    Returns:
        Its epoch and batch; None if there is none.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    path = gather(newest_checkpoint(folder) if state.ranks.first else None, state.ranks)[0]
    if path is None:
        return None
    payload = load_checkpoint(path)
    state.model.load_state_dict(payload["model"])
    restore_optimization(state, payload)
    return payload["epoch"] + 1, payload["resume"]["batch"]


def restore_optimization(state: TrainState, payload: Mapping[str, Any]) -> None:
    """Restore EMA, optimizer and loss scale from a checkpoint."""
    resume = payload["resume"]
    for mine, given in zip(state.optimizer.state_dict()["param_groups"], resume["optimizer"]["param_groups"], strict=True):
        for name, value in mine.items():
            kinds = next((kinds for kinds in _ALIKE if type(value) in kinds), (type(value),))
            if type(given[name]) not in kinds or given[name] != given[name]:  # NaN
                raise ValueError(f"the optimizer's {name} is {given[name]!r:.50}")
    state.optimizer.load_state_dict(resume["optimizer"])
    state.scaler.load_state_dict(resume["scaler"])
    state.ema.module.load_state_dict(payload["ema"])
    state.ema.updates = resume["updates"]
    state.criterion.box_loss.restore(resume.get("box_loss", []))


@contextlib.contextmanager
def refusing_unfit(stopped: StoppedRun) -> Iterator[None]:
    """Blame the checkpoint, which may be untrusted, for whatever fails while its parts are put to use.

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


def _position(run: Run, resume: Mapping[str, Any]) -> Position:
    """Where the first epoch begins: at its start if its batches are no longer the same."""
    batch, ranks = resume.get("batch", 0), run.ranks
    if not batch:
        return START
    sums = [[float(value) for _, value in zip(TERMS, values, strict=True)] for values in resume["sums"]]
    if not sums or batch > resume["steps"]:
        raise ValueError(f"batch {batch} of {resume['steps']}")
    if resume["steps"] != len(run.loader):
        LOG.warning("an epoch has %d batches and had %d; epoch %d starts again", len(run.loader), resume["steps"], run.start)
        return START
    if len(sums) == ranks.world_size:
        return Position(batch, tuple(sums[ranks.rank]))
    LOG.warning("resuming with %d processes instead of %d: the result will not be the same to the bit", ranks.world_size, len(sums))
    totals = tuple(map(sum, zip(*sums, strict=True)))
    return Position(batch, totals if ranks.first else START.sums)


def note_changes(folder: Path, stopped: StoppedRun) -> None:
    """Append to resumed.txt the changes that ``--resume-anyway`` accepted, if any."""
    if stopped.changes:
        batch = stopped.payload["resume"].get("batch", 0)
        lines = [f"epoch {stopped.epoch}, batch {batch}: resumed from {stopped.path} although", *(f"  {c}" for c in stopped.changes)]
        with open_append(folder / "resumed.txt") as file:
            file.write(escaped("\n".join([*lines, ""])).encode())
        LOG.warning("%s", "\n".join(lines))


def restore_best(run: Run, stopped: StoppedRun) -> None:
    """Make sure that best.pt is there if there was a best epoch; if it is missing or damaged, the search for the best starts again.

    Other damaged checkpoints are renamed: the next save would replace the checkpoint before them, which the run resumes from.
    """
    lost = False
    if run.ranks.first:
        for path in (run.folder / "weights" / LAST, run.folder / "weights" / PREVIOUS):
            if path.is_file() and not has_valid_checksum(path):
                path.replace(path.with_suffix(".damaged"))
        lost = not run.config.nosave and not _recover_best(run, stopped)
    if gather(lost, run.ranks)[0]:
        run.stopping.best, run.stopping.epoch = -1.0, 0


def _recover_best(run: Run, stopped: StoppedRun) -> bool:
    """Bring best.pt into the run folder; return whether that worked."""
    path = run.folder / "weights" / "best.pt"
    if stopped.moved and stopped.origin and (best := stopped.origin / "weights" / "best.pt").is_file():
        with best.open("rb") as source, atomic_write(path) as file:
            shutil.copyfileobj(source, file)
    if run.stopping.best < 0 or (path.is_file() and has_valid_checksum(path)):
        return True
    payload = stopped.payload
    if run.done or (payload["epoch"] == run.stopping.epoch and not payload["resume"].get("batch")):
        LOG.warning("%s is missing or damaged; it is restored from %s", path, stopped.path)
        save_checkpoint(path, ema_only(payload))
        return True
    LOG.warning("%s is missing or damaged; the best epoch from here on replaces it", path)
    return False
