"""Going on with a run that was stopped: the ``--resume`` flag."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from utils.config import Hyp, TrainConfig
from utils.errors import UserError
from utils.files.checksum import is_whole
from utils.log import LOG
from utils.training.checkpoint import is_checkpoint, load_checkpoint
from utils.training.early_stopping import EarlyStop
from utils.training.record import LAST, PREVIOUS

CHANGEABLE = frozenset(
    {
        *("epochs", "data", "device", "workers", "project", "name", "exist_ok", "cache", "patience"),
        *("save_period", "save_interval", "noplots", "rank_timeout"),
    }
)
"""Flags that may differ from the stopped run's: none of them changes what an epoch before the end computes."""
FIXED = frozenset({"weights", "cfg", "optimizer", "freeze", "single_cls", "classes"})
"""Flags that the state of the stopped run does not fit if they differ."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stopped:
    """A run to go on with.

    Attributes:
        path: its checkpoint.
        config: its flags, those given anew on top.
        hyp: its hyper-parameters.
        payload: what the checkpoint holds.
        origin: its run folder, if the checkpoint lies in one.
        moved: whether ``--project`` or ``--name`` asks for a new folder.
        changes: how the flags differ from the run's, where that was to be refused without ``--resume-anyway``.
        changed: whether any setting is another one.
    """

    path: Path
    config: TrainConfig
    hyp: Hyp
    payload: dict[str, Any]
    origin: Path | None
    moved: bool
    changes: list[str]
    changed: bool

    @property
    def folder(self) -> Path | None:
        """The run folder to go on in; None where a new one is to be made."""
        return None if self.moved else self.origin

    @property
    def epoch(self) -> int:
        """The first epoch that is still to do, or to finish."""
        return int(self.payload["epoch"]) + 1

    @property
    def finished(self) -> bool:
        """Whether no epoch is left to do."""
        return _is_finished(self.payload, self.config)


def newest_whole(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a run folder, None if there is none; one that is damaged is named in the log."""
    for path in _checkpoints(folder):
        try:
            if is_whole(path) and is_checkpoint(path):
                return path
            reason = "its checksum does not fit"
        except OSError as error:
            reason = str(error.strerror)
        LOG.warning("%s is damaged (%s); taking the checkpoint before it", path, reason)
    return None


def is_finished(payload: Mapping[str, Any]) -> bool:
    """Whether a checkpoint of a run is its last: all epochs are done, or it stopped early."""
    return _is_finished(payload, _restored(TrainConfig, payload["config"], "the checkpoint"))


def locate(config: TrainConfig) -> Path:
    """Return the run folder or, where it lies in none or is not the run's newest, the checkpoint that ``--resume`` names.

    Raises:
        UserError: there is no such file, or no run below ``--project``.
    """
    if config.resume == "newest":
        found = [p for name in (LAST, PREVIOUS) for p in Path(config.project).glob(f"**/weights/{name}")]
        if not found:
            raise UserError(f"--resume: no weights/{LAST} below {config.project}; name the checkpoint")
        return max(found, key=lambda p: p.stat().st_mtime_ns).parent.parent
    path = Path(config.resume)
    if path.name == "weights" and path.is_dir():
        return path.parent
    newest = path.name == LAST or (path.name == PREVIOUS and not path.with_name(LAST).exists())
    if newest and path.parent.name == "weights" and next(_checkpoints(path.parent.parent), None):
        return path.parent.parent
    if not path.is_dir() and not path.is_file():
        raise UserError(f"--resume: no file {path}; give a run folder or the {LAST} of a run")
    return path


def run_folder(path: Path) -> Path | None:
    """The run folder that a path returned by `locate` is or lies in, if it does."""
    if path.is_dir():
        return path if (path / "weights").is_dir() else None
    return path.parent.parent if path.parent.name == "weights" else None


def moves(config: TrainConfig, given: frozenset[str]) -> bool:
    """Whether the flags `given` ask for a new run folder; with a bare ``--resume``, ``--project`` tells where to look."""
    return bool(given & ({"name"} if config.resume == "newest" else {"project", "name"}))


def read_stopped(place: Path, config: TrainConfig, hyp: Hyp, given: frozenset[str], flags: Mapping[str, float]) -> Stopped:
    """Read the checkpoint to go on from, and lay the flags `given` over those it was trained with.

    Args:
        place: what `locate` found.
        config: the parsed command line.
        hyp: its hyper-parameters.
        given: the fields of `config` that were given.
        flags: the hyper-parameters that were given.

    Raises:
        UserError: no whole checkpoint, not one of a training run, a flag that must not change, or nothing left to do.
    """
    path = _checkpoint(place)
    payload = load_checkpoint(path)
    if not payload.get("resume"):
        raise UserError(f"{path}: holds weights only, nothing to resume; start from it with --weights {path}")
    if odd := _odd_part(payload):
        raise UserError(f"{path}: its {odd} is none that a training writes; start from it with --weights {path}")
    old, old_hyp = _restored(TrainConfig, payload["config"], path), _restored(Hyp, payload["hyp"], path)
    if strange := [plugin for plugin in old.plugins if plugin not in config.plugins]:
        raise UserError(f"{path}: its run used plug-ins, which are programs; if you trust them, name them: --plugins {' '.join(strange)}")
    names = {f.name for f in dataclasses.fields(Hyp)} if "hyp" in given else set(flags)
    new = {k: getattr(config, k) for k in given - {"resume", "resume_anyway", "hyp"} if (k, getattr(config, k)) != ("batch_size", -1)}
    new_hyp = {k: getattr(hyp, k) for k in names}
    changes = [*_changes(old, {k: v for k, v in new.items() if k not in CHANGEABLE}), *_changes(old_hyp, new_hyp)]
    fixed = [k for k in new if k in FIXED and new[k] != getattr(old, k)]
    if changes and (fixed or not config.resume_anyway):
        _refuse(path, changes, fixed)
    merged = dataclasses.replace(old, **new, resume=str(path), resume_anyway=config.resume_anyway)
    merged_hyp = dataclasses.replace(old_hyp, **new_hyp)
    changed = bool(_changes(old, new) or merged_hyp != old_hyp)
    stopped = Stopped(path, merged, merged_hyp, payload, run_folder(path), moves(config, given), changes, changed)
    _check_unfinished(stopped)
    return stopped


def _checkpoints(folder: Path) -> Iterator[Path]:
    """The checkpoints of a run folder that a run can go on from, newest first."""
    weights = folder / "weights" if (folder / "weights").is_dir() else folder
    numbered = [p for p in weights.glob("epoch*.pt") if p.stem[5:].isdigit()]
    candidates = [weights / LAST, weights / PREVIOUS, *sorted(numbered, key=lambda p: -int(p.stem[5:]))]
    return (p for p in candidates if p.is_file())


def _checkpoint(place: Path) -> Path:
    """The checkpoint itself, or the newest whole one of a folder."""
    if not place.is_dir():
        if not is_checkpoint(place):
            raise UserError(f"--resume: {place} is no checkpoint of Attune; start from it with --weights {place}")
        return place
    there = list(_checkpoints(place))
    if not there:
        raise UserError(f"--resume: {place} holds no checkpoint; it was stopped before its first, start it anew (--exist-ok)")
    if not any(is_checkpoint(p) for p in there):
        raise UserError(f"--resume: {there[0]} is no checkpoint of Attune; start from it with --weights {there[0]}")
    path = newest_whole(place)
    if path is None:
        raise UserError(f"--resume: no checkpoint in {place} is whole ({', '.join(p.name for p in there)}); start the run anew")
    return path


def _restored(kind: type[Any], values: Mapping[str, Any], path: Path | str) -> Any:
    known = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    try:
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
        for name, value in given.items():
            if not _is_of(known[name], value):
                raise TypeError(f"{name} is {value!r:.100}")
        return kind(**given)
    except (TypeError, AttributeError) as error:
        raise UserError(f"{path}: its settings cannot be read ({error}); start from it with --weights {path}") from error


def _odd_part(payload: Mapping[str, Any]) -> str:
    """The first part of a checkpoint that is not of its kind; '' when all are."""
    state = payload["resume"] if isinstance(payload["resume"], dict) else {}
    numbers = {"epoch": payload.get("epoch"), "best epoch": state.get("best_epoch"), "batch": state.get("batch", 0)}
    numbers |= {name: state.get(name, 0) for name in ("updates", "steps")}
    parts = {name: payload.get(name) for name in ("config", "hyp", "resume")}
    kinds = {
        **{name: type(part) is dict for name, part in parts.items()},
        **{name: type(number) is int and -1 <= number < 1 << 31 for name, number in numbers.items()},
        "best figure": type(state.get("best")) in (int, float),
    }
    return next((name for name, good in kinds.items() if not good), "")


def _is_of(kind: str, value: object) -> bool:
    """Whether a value is of a field's type: a checkpoint of a stranger may hold anything."""
    if isinstance(value, tuple):
        items = [option.partition("[")[2].partition(",")[0] for option in kind.split(" | ") if option.startswith("tuple[")]
        return bool(items) and all(type(item).__name__ == items[0] for item in value)
    name = "None" if value is None else type(value).__name__
    return name in kind.split(" | ") or (name == "int" and "float" in kind)


def _changes(old: object, new: Mapping[str, Any]) -> list[str]:
    """Each value of `new` that is not that of the dataclass `old`, in words."""
    return [f"{_flag(k)} was {getattr(old, k)!r} and is {v!r}" for k, v in sorted(new.items()) if v != getattr(old, k)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _refuse(path: Path, changes: list[str], fixed: list[str]) -> None:
    allowed = ", ".join(_flag(k) for k in sorted(CHANGEABLE))
    if fixed:
        advice = f"{_flag(min(fixed))} cannot change when a run goes on; start a new run with --weights {path}"
    else:
        advice = f"Leave them out, or give --resume-anyway to go on with what is new; {allowed} may change"
    raise UserError(f"{path}: settings are not those of the run: {'; '.join(changes)}. {advice}")


def _is_finished(payload: Mapping[str, Any], config: TrainConfig) -> bool:
    done, state = int(payload["epoch"]) + 1, payload["resume"]
    if state.get("batch"):
        return False
    return done >= config.epochs or EarlyStop(config.patience, state["best"], state["best_epoch"]).spent(done - 1)


def _check_unfinished(stopped: Stopped) -> None:
    done, path = stopped.epoch, stopped.path
    if not stopped.finished or (stopped.folder and not (stopped.folder / "metrics.json").is_file()):
        return
    if done >= stopped.config.epochs:
        raise UserError(f"{path}: all {done} epochs are done, nothing to resume; for more give --epochs with a number above {done}")
    raise UserError(f"{path}: stopped early after epoch {done - 1}, nothing to resume; for more give a larger --patience, or 0")
