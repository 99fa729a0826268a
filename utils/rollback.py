"""Going back to the newest checkpoint in the middle of a training."""

from __future__ import annotations

from pathlib import Path

from utils.checkpoint import load_checkpoint
from utils.distributed import gather
from utils.engine import Trainee
from utils.events import Events
from utils.resume import newest_whole


def watch(trainee: Trainee, folder: Path) -> None:
    """Let a trainee write its events into the run folder, and find there what it may have to go back to."""
    trainee.events = Events(folder / "events.jsonl", silent=not trainee.ranks.first)
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
    state = payload["resume"]
    trainee.model.load_state_dict(payload["model"])
    trainee.ema.module.load_state_dict(payload["ema"])
    trainee.ema.updates = state["updates"]
    trainee.optimizer.load_state_dict(state["optimizer"])
    trainee.scaler.load_state_dict(state["scaler"])
    return payload["epoch"] + 1, state["batch"]
