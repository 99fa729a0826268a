"""Going back to the newest checkpoint in the middle of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.distributed import gather
from utils.training.checkpoint import load_checkpoint
from utils.training.engine import Trainee
from utils.training.events import Events
from utils.training.resume import newest_whole


def watch(trainee: Trainee, folder: Path, *, keeps: bool) -> None:
    """Let a trainee write its events into the run folder, and find there what it may have to go back to.

    Unless the run `keeps` checkpoints, those in its folder are an older run's.
    """
    trainee.events = Events(folder / "events.jsonl", silent=not trainee.ranks.first)
    if keeps:
        trainee.guard.roll_back = lambda: roll_back(trainee, folder)


def roll_back(trainee: Trainee, folder: Path) -> tuple[int, int] | None:
    """Put back weights, average, optimizer and loss scale of the newest whole checkpoint of a run folder, in all ranks alike.

    Returns:
        The epoch and batch it stands at; None if there is none.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    path = gather(newest_whole(folder) if trainee.ranks.first else None, trainee.ranks)[0]
    if path is None:
        return None
    payload = load_checkpoint(path)
    trainee.model.load_state_dict(payload["model"])
    take_up(trainee, payload)
    return payload["epoch"] + 1, payload["resume"]["batch"]


def take_up(trainee: Trainee, payload: Mapping[str, Any]) -> None:
    """Put back what training changes beside the weights: average, optimizer and loss scale of a checkpoint."""
    state = payload["resume"]
    trainee.optimizer.load_state_dict(state["optimizer"])
    trainee.scaler.load_state_dict(state["scaler"])
    trainee.ema.module.load_state_dict(payload["ema"])
    trainee.ema.updates = state["updates"]
