"""Arms of a study: a model with weights, hyper-parameters and flags of its own, from ``--arm`` or the file of ``--arms``."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.weights.load import read_weights
from utils.cli import parse_with
from utils.compare.config import CompareConfig, arm_flags
from utils.compare.study import Variant
from utils.compare.variants import folder_name
from utils.config import Hyp, TrainConfig
from utils.errors import UserError, nearest
from utils.files.yaml_file import read_yaml
from utils.versions import file_digest

_KEYS = ("cfg", "weights", "hyp", "flags")


def read_arms(config: CompareConfig) -> tuple[list[Variant], CompareConfig]:
    """Read the arms of ``--arms`` and ``--arm``.

    Returns:
        A variant for each, not built yet; and the flags, with what the file alone says of baseline and factors.

    Raises:
        UserError: invalid, with the file or flag and the arm's name.
    """
    arms: list[Variant] = []
    if config.arms:
        arms, baseline, factors = _from_file(Path(config.arms))
        config = dataclasses.replace(config, baseline=config.baseline or baseline, factors=config.factors or factors)
    arms += [_from_line(line) for line in config.arm]
    if config.control and any(arm.weights for arm in arms):
        raise UserError("--control makes controls that start from the study's --weights; omit it, or the arms' own weights")
    return arms, config


def _from_file(path: Path) -> tuple[list[Variant], str, tuple[str, ...]]:
    content = read_yaml(path)
    _check_keys(content, ("baseline", "arms", "factors"), str(path))
    arms, baseline, factors = content.get("arms"), content.get("baseline", ""), content.get("factors", [])
    if not isinstance(arms, dict) or not arms or not isinstance(baseline, str):
        raise UserError(f"{path}: needs 'arms:' with a line such as 'siou: {{cfg: yolov5n.yaml, hyp: {{box_loss: siou}}}}' for each arm")
    if baseline and baseline not in arms:
        raise UserError(f"{path}: baseline: no arm {baseline!r}{nearest(baseline, arms)}")
    if not isinstance(factors, list) or not all(isinstance(name, str) for name in factors):
        raise UserError(f"{path}: factors: a list of arms to combine, as in [ca, siou]")
    return [_from_entry(path, str(name), entry) for name, entry in arms.items()], baseline, tuple(factors)


def _from_entry(path: Path, name: str, entry: Any) -> Variant:
    where = f"{path}: arm {name}"
    if not isinstance(entry, dict) or not isinstance(entry.get("cfg"), str):
        raise UserError(f"{where}: needs a model, as in {{cfg: yolov5n.yaml}}")
    _check_keys(entry, _KEYS, where)
    hyp, flags, weights = entry.get("hyp", {}), entry.get("flags", {}), entry.get("weights")
    if not isinstance(hyp, dict) or not isinstance(flags, dict) or not isinstance(weights, str | None):
        raise UserError(f"{where}: hyp and flags are 'name: value' pairs, and weights is a path, or '' to train from scratch")
    _check_keys(hyp, _hyper_parameters(), f"{where}: hyp")
    _check_keys(flags := {str(k).replace("-", "_"): v for k, v in flags.items()}, arm_flags(), f"{where}: flags")
    beside = path.parent / entry["cfg"]
    there = os.path.isfile(beside)  # noqa: PTH113 - Path.is_file raises on a name that is too long
    return _arm(where, name, str(beside) if there else entry["cfg"], weights, {**hyp, **flags})


def _from_line(line: str) -> Variant:
    """Read ``NAME: CFG [weights=FILE] [name=value ...] [switch ...]``."""
    where = f"--arm {line!r:.100}"
    name, _, rest = line.partition(":")
    try:
        cfg, *words = shlex.split(rest)
    except ValueError as error:
        raise UserError(f"{where}: expected 'NAME: MODEL.yaml', then settings such as box_loss=siou") from error
    settings: dict[str, Any] = {}
    for key, equals, value in (word.partition("=") for word in words):
        settings[key.replace("-", "_")] = value if equals else True
    weights = settings.pop("weights", None)
    if weights is True:
        raise UserError(f"{where}: weights needs a file, as in weights=best.pt")
    _check_keys(settings, (*_hyper_parameters(), *arm_flags()), where)
    return _arm(where, name.strip(), cfg, weights, settings)


def _arm(where: str, name: str, cfg: str, weights: str | None, settings: Mapping[str, Any]) -> Variant:
    """Check the settings as the command line of train.py does."""
    switches = {f.name for f in dataclasses.fields(TrainConfig) if isinstance(f.default, bool)}
    off = {key: False for key, value in settings.items() if key in switches and value is False}
    words: list[str] = []
    for key, value in settings.items():
        if key not in off:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [f"--{key.replace('_', '-')}", *map(str, values)]
    try:
        config, given, hyp = parse_with(TrainConfig, Hyp, words)
        if beyond := (given | hyp.keys()) - settings.keys():
            raise UserError(f"a value contains the flag --{min(beyond).replace('_', '-')}")
        Hyp(**hyp)
        if weights:
            weights = str(read_weights(weights).source.resolve())
        return Variant(
            name=folder_name(name, where),
            cfg=cfg,
            hyp=hyp,
            flags={key: getattr(config, key) for key in settings if key in given} | off,
            weights=weights,
            weights_digest=file_digest(weights) if weights else "",
        )
    except UserError as error:
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from error


def _hyper_parameters() -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(Hyp))


def _check_keys(content: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in known:
            raise UserError(f"{where}: unknown {key!r:.100}{nearest(key, known)}")
