"""Going on with a run that was stopped: the ``--resume`` flag."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.checkpoint import is_checkpoint, load_checkpoint
from utils.config import Hyp, TrainConfig
from utils.errors import UserError
from utils.stopping import EarlyStop

CHANGEABLE = frozenset(
    {"epochs", "data", "device", "workers", "project", "name", "exist_ok", "cache", "patience", "save_period", "noplots"}
)
"""Flags that may differ from the stopped run's: none of them changes what an epoch before the end computes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stopped:
    """A run to go on with.

    Attributes:
        config: its flags, those given anew on top.
        hyp: its hyper-parameters.
        payload: its checkpoint.
        origin: its run folder, if the checkpoint lies in one.
        moved: whether ``--project`` or ``--name`` asks for a new folder.
    """

    config: TrainConfig
    hyp: Hyp
    payload: dict[str, Any]
    origin: Path | None
    moved: bool

    @property
    def folder(self) -> Path | None:
        """The run folder to go on in; None where a new one is to be made."""
        return None if self.moved else self.origin

    @property
    def epoch(self) -> int:
        """The first epoch that is still to do."""
        return int(self.payload["epoch"]) + 1


def read_stopped(config: TrainConfig, given: frozenset[str], hyp: Mapping[str, float]) -> Stopped:
    """Read the checkpoint that ``--resume`` names, and lay the flags `given` over those it was trained with.

    Args:
        config: the parsed command line.
        given: the fields of it that were given.
        hyp: hyper-parameters given on the command line.

    Raises:
        UserError: no such checkpoint, not one of a training run, a flag that must not change, or nothing left to do.
    """
    path = _find(config)
    payload = load_checkpoint(path)
    if not payload.get("resume"):
        raise UserError(f"{path}: holds weights only, nothing to resume; start from it with --weights {path}")
    old = _restored(TrainConfig, payload["config"], path)
    old_hyp = _restored(Hyp, payload["hyp"], path)
    changed = {k: getattr(config, k) for k in given - {"resume"}}
    refused = [k for k, v in changed.items() if k not in CHANGEABLE and v != getattr(old, k)]
    refused += [k for k, v in hyp.items() if v != getattr(old_hyp, k)]
    if refused:
        allowed = ", ".join("--" + k.replace("_", "-") for k in sorted(CHANGEABLE))
        raise UserError(f"--{min(refused).replace('_', '-')} cannot change when a run goes on; {allowed} can")
    merged = dataclasses.replace(old, **{k: v for k, v in changed.items() if k in CHANGEABLE}, resume=str(path))
    stopped = Stopped(merged, old_hyp, payload, _run_folder(path), bool(given & {"project", "name"}))
    _check_unfinished(stopped, path)
    return stopped


def _find(config: TrainConfig) -> Path:
    """The checkpoint itself, that of a run folder, or the newest below --project."""
    if config.resume != "newest":
        path = Path(config.resume)
        if path.is_dir():
            path = path / "weights" / "last.pt" if (path / "weights").is_dir() else path / "last.pt"
        if not path.is_file():
            raise UserError(f"--resume: no file {path}; give the last.pt of a run")
        if not is_checkpoint(path):
            raise UserError(f"--resume: {path} is no checkpoint of Attune; start from it with --weights {path}")
        return path
    found = [p for p in Path(config.project).glob("**/weights/last*.pt") if is_checkpoint(p)]
    if not found:
        raise UserError(f"--resume: no weights/last.pt below {config.project}; name the checkpoint")
    return max(found, key=lambda p: p.stat().st_mtime_ns)


def _restored(kind: type[Any], values: Mapping[str, Any], path: Path) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})
    except (TypeError, AttributeError) as error:
        raise UserError(f"{path}: its settings cannot be read ({error}); start from it with --weights {path}") from error


def _run_folder(path: Path) -> Path | None:
    return path.parent.parent if path.parent.name == "weights" else None


def _check_unfinished(stopped: Stopped, path: Path) -> None:
    done, config = stopped.epoch, stopped.config
    if done >= config.epochs:
        raise UserError(f"{path}: all {done} epochs are done, nothing to resume; for more give --epochs with a number above {done}")
    state = stopped.payload["resume"]
    stop = EarlyStop(config.patience, state["best"], state["best_epoch"])
    if stop.spent(done - 1):
        raise UserError(f"{path}: stopped early after epoch {done - 1}, nothing to resume; for more give a larger --patience, or 0")
