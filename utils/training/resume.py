"""Resuming a stopped run: the ``--resume`` flag."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from utils.config import Hyp, TrainConfig
from utils.errors import UserError
from utils.files.checksum import has_valid_checksum
from utils.files.plain_data import typed
from utils.log import LOG
from utils.training.checkpoint import LAST, PREVIOUS, is_checkpoint, load_checkpoint
from utils.training.early_stopping import EarlyStopping
from utils.versions import file_digest

CHANGEABLE = frozenset(
    {
        *("epochs", "data", "device", "workers", "cache", "patience"),
        *("save_period", "save_interval", "keep_resume", "noplots", "rank_timeout"),
    }
)
"""Flags that may differ from the stopped run's: none changes what a training step computes."""
PLACE = frozenset({"project", "name", "exist_ok"})
"""Flags that say where the run writes. Those of the checkpoint, which may come from someone else, never count."""
_MAX_NAME = 255  # bytes
FIXED = frozenset({"weights", "cfg", "optimizer", "freeze", "single_cls", "classes"})
"""Flags that may never differ: the stopped run's state would not fit."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoppedRun:
    """A run to resume.

    Attributes:
        path: its checkpoint.
        config: its flags, overridden by those given now.
        hyp: its hyper-parameters, likewise.
        payload: the content of the checkpoint.
        origin: its run folder, if the checkpoint lies in one.
        moved: whether ``--project`` or ``--name`` asks for a new folder.
        changes: that only ``--resume-anyway`` accepts, as text.
        changed: whether any setting differs.
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
        """The run folder to continue in; None to make a new one."""
        return None if self.moved else self.origin

    @property
    def epoch(self) -> int:
        """The first epoch that is not complete."""
        return int(self.payload["epoch"]) + 1

    @property
    def finished(self) -> bool:
        """Whether no epoch is left."""
        return is_finished(self.payload, self.config)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest intact checkpoint of a run folder, None if there is none; damaged ones are named in the log."""
    for path in _checkpoints(folder):
        try:
            if has_valid_checksum(path) and is_checkpoint(path):
                return path
            reason = "wrong checksum"
        except OSError as error:
            reason = str(error.strerror)
        LOG.warning("%s is damaged (%s); using the checkpoint before it", path, reason)
    return None


def is_finished(payload: Mapping[str, Any], config: TrainConfig | None = None) -> bool:
    """Whether a checkpoint of a run is its last: all epochs are done, or it stopped early; `config` is by default the checkpoint's."""
    config = config or _restored(TrainConfig, payload["config"], "the checkpoint")
    done, state = int(payload["epoch"]) + 1, payload["resume"]
    if state.get("batch"):
        return False
    return done >= config.epochs or EarlyStopping(config.patience, state["best"], state["best_epoch"]).should_stop(done - 1)


def locate(config: TrainConfig) -> Path:
    """Return the run folder that ``--resume`` names; the checkpoint if it is in no run folder or is not the newest of its run.

    Raises:
        UserError: there is no such file, or no run below ``--project``.
    """
    if config.resume == "newest":
        # "**" follows no link to a folder, and a run may have been moved to another disk
        patterns = [f"{place}/weights/{name}" for name in (LAST, PREVIOUS) for place in ("**", "*", "*/*")]
        found = [p for pattern in patterns for p in Path(config.project).glob(pattern)]
        if not found:
            raise UserError(f"--resume: no weights/{LAST} below {config.project}; name the checkpoint")
        return max(found, key=lambda p: p.stat().st_mtime_ns).parent.parent
    path = Path(config.resume)
    if len(os.fsencode(path.name)) > _MAX_NAME or "\0" in config.resume:
        raise UserError(f"--resume: {config.resume[:100]!r} is no path; give a run folder or the {LAST} of a run")
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


def asks_for_new_folder(config: TrainConfig, given: frozenset[str]) -> bool:
    """Whether the flags `given` ask for a new run folder; with a bare ``--resume``, ``--project`` is where to search."""
    return bool(given & ({"name"} if config.resume == "newest" else {"project", "name"}))


def read_stopped(place: Path, config: TrainConfig, hyp: Hyp, given: frozenset[str], flags: Mapping[str, float]) -> StoppedRun:
    """Read the checkpoint to resume from, and override its flags with those `given`.

    Args:
        place: returned by `locate`.
        config: the parsed command line.
        hyp: its hyper-parameters.
        given: the fields of `config` given on the command line.
        flags: the hyper-parameters given as flags.

    Raises:
        UserError: no intact checkpoint, not one of a training run, a flag that must not change, or nothing left to train.
    """
    path = _checkpoint(place)
    payload = load_checkpoint(path)
    if not payload.get("resume"):
        raise UserError(f"{path}: contains weights only, nothing to resume; start from it with --weights {path}")
    if field := _invalid_field(payload):
        raise UserError(f"{path}: invalid field {field!r}; start from it with --weights {path}")
    if payload["resume"].get("stripped"):
        epochs = int(payload["epoch"]) + 1
        reason = f"{path}: its run is finished after {epochs} epochs and holds nothing to resume (--keep-resume would keep it)"
        raise UserError(f"{reason}; start from it with --weights {path}")
    old, old_hyp = _restored(TrainConfig, payload["config"], path), _restored(Hyp, payload["hyp"], path)
    if old.augment and config.augment != old.augment:
        raise UserError(f"{path}: its run used an augmentation that is a program; if you trust it, name it: --augment {old.augment}")
    if unnamed := [plugin for plugin in old.plugins if plugin not in config.plugins]:
        raise UserError(f"{path}: its run used plug-ins, which are programs; if you trust them, name them: --plugins {' '.join(unnamed)}")
    names = {f.name for f in dataclasses.fields(Hyp)} if "hyp" in given else set(flags)
    kept = {"resume", "resume_anyway", "hyp", *PLACE}
    new = {k: getattr(config, k) for k in given - kept if (k, getattr(config, k)) != ("batch_size", -1)}
    new_hyp = {k: getattr(hyp, k) for k in names}
    changes = [*_changes(old, {k: v for k, v in new.items() if k not in CHANGEABLE}), *_changes(old_hyp, new_hyp)]
    before, now = payload["resume"].get("plugins", {}), program_digests(old)
    changes += [f"plug-in {plugin} was edited" for plugin in now if before.get(plugin, now[plugin]) != now[plugin]]
    fixed = [k for k in new if k in FIXED and new[k] != getattr(old, k)]
    if changes and (fixed or not config.resume_anyway):
        allowed = ", ".join(_flag(k) for k in sorted(CHANGEABLE | PLACE))
        advice = f"Omit them, or add --resume-anyway to accept the changes; {allowed} may change freely"
        if fixed:
            advice = f"{_flag(min(fixed))} cannot change when a run is resumed; start a new run with --weights {path}"
        raise UserError(f"{path}: settings differ from the run's: {'; '.join(changes)}. {advice}")
    changed = bool(_changes(old, new) or _changes(old_hyp, new_hyp))
    origin = run_folder(path)
    merged = dataclasses.replace(old, **new, **_place(config, given, origin), resume=str(path), resume_anyway=config.resume_anyway)
    merged_hyp = dataclasses.replace(old_hyp, **new_hyp)
    stopped = StoppedRun(path, merged, merged_hyp, payload, origin, asks_for_new_folder(config, given), changes, changed)
    if stopped.finished and not (stopped.folder and not (stopped.folder / "metrics.json").is_file()):
        done = stopped.epoch
        if done >= merged.epochs:
            raise UserError(f"{path}: all {done} epochs are done, nothing to resume; for more give --epochs above {done}")
        raise UserError(f"{path}: stopped early after epoch {done - 1}, nothing to resume; for more give a larger --patience, or 0")
    return stopped


def _place(config: TrainConfig, given: frozenset[str], origin: Path | None) -> dict[str, Any]:
    """The flags that say where to write: those of the command line, and for what it does not name, the folder of the given checkpoint."""
    origin = origin.resolve() if origin and origin.name in ("", "..") else origin
    project = config.project if "project" in given or origin is None else str(origin.parent)
    name = config.name if "name" in given or origin is None else origin.name
    return {"project": project, "name": name, "exist_ok": config.exist_ok}


def program_digests(config: TrainConfig) -> dict[str, str]:
    """The SHA-256 of each file of a user's own that a run executes, by its path.

    Raises:
        UserError: one cannot be read.
    """
    return {path: file_digest(path) for path in (*config.plugins, *([config.augment.rpartition(":")[0]] if config.augment else []))}


def _checkpoints(folder: Path) -> Iterator[Path]:
    """The checkpoints of a run folder that can be resumed, newest first."""
    weights = folder / "weights" if (folder / "weights").is_dir() else folder
    numbered = [p for p in weights.glob("epoch*.pt") if p.stem[5:].isdigit()]
    candidates = [weights / LAST, weights / PREVIOUS, *sorted(numbered, key=lambda p: -int(p.stem[5:]))]
    return (p for p in candidates if p.is_file())


def _checkpoint(place: Path) -> Path:
    """The checkpoint itself, or the newest intact one of a folder."""
    if not place.is_dir():
        if not is_checkpoint(place):
            raise UserError(f"--resume: {place} is not a checkpoint of Attune; start from it with --weights {place}")
        return place
    there = list(_checkpoints(place))
    if not there:
        raise UserError(f"--resume: {place} contains no checkpoint, as its run stopped before the first; start it again (--exist-ok)")
    if not any(is_checkpoint(p) for p in there):
        raise UserError(f"--resume: {there[0]} is not a checkpoint of Attune; start from it with --weights {there[0]}")
    path = newest_checkpoint(place)
    if path is None:
        raise UserError(f"--resume: no checkpoint in {place} is intact ({', '.join(p.name for p in there)}); start the run again")
    return path


def _restored(kind: type[Any], values: Mapping[str, Any], path: Path | str) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    try:
        found = typed(kind, {k: v for k, v in values.items() if k in known})  # an older or newer version has other settings
        for field in dataclasses.fields(kind):
            choices, value = field.metadata["argument"].get("choices"), getattr(found, field.name)
            if choices and value != field.default and value not in choices:
                raise TypeError(f"{field.name} is {value!r:.100}")
        return found
    except (TypeError, AttributeError, UserError) as error:
        raise UserError(f"{path}: invalid settings ({error}); start from it with --weights {path}") from error


def _invalid_field(payload: Mapping[str, Any]) -> str:
    """The first field of a checkpoint with a wrong type; '' if there is none."""
    state = payload["resume"] if isinstance(payload["resume"], dict) else {}
    numbers = {"epoch": payload.get("epoch"), "best epoch": state.get("best_epoch"), "batch": state.get("batch", 0)}
    numbers |= {name: state.get(name, 0) for name in ("updates", "steps")}
    parts = {name: payload.get(name) for name in ("config", "hyp", "resume")}
    ap, versions, plugins = state.get("ap"), state.get("versions", {}), state.get("plugins", {})
    kinds = {
        **{name: type(part) is dict for name, part in parts.items()},
        **{name: type(number) is int and -1 <= number < 1 << 31 for name, number in numbers.items()},
        "best": type(state.get("best")) in (int, float),
        "ap": ap is None or (type(ap) is list and all(type(value) is float for value in ap)),
        "versions": type(versions) is dict and all(type(text) is str for text in (*versions, *versions.values())),
        "plugins": type(plugins) is dict,
    }
    return next((name for name, good in kinds.items() if not good), "")


def _changes(old: object, new: Mapping[str, Any]) -> list[str]:
    """Each value of `new` that differs from that of the dataclass `old`, as text."""
    return [f"{_flag(k)} was {getattr(old, k)!r} and is {v!r}" for k, v in sorted(new.items()) if v != getattr(old, k)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
