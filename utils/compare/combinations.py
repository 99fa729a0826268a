"""The arms of a factorial study that combine what single arms change."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.spec.combine import combined, find_parts
from models.spec.model_spec import ModelSpec, base_of
from utils.compare.factors import MOST, cells
from utils.compare.study import Variant
from utils.compare.variants import folder_name
from utils.errors import UserError, nearest


def missing_cells(arms: Sequence[Variant], baseline: str, factors: Sequence[str]) -> list[Variant]:
    """The arms that a full factorial study of `factors` lacks, made of what each factor changes against the baseline.

    Raises:
        UserError: a factor is no arm, two of them change the same setting, or an arm has the name of a combination and is another.
    """
    named, where = {arm.name: arm for arm in arms}, f"factors: [{', '.join(factors)}]"
    if len(set(factors)) < len(factors) or not 2 <= len(factors) <= MOST:
        raise UserError(f"{where}: name two to {MOST} different arms")
    for name in factors:
        if name not in named or name == baseline:
            why = "is the baseline" if name == baseline else f"there is no arm of that name{nearest(name, named)}"
            raise UserError(f"{where}: {name!r}: {why}; a factor is an arm that changes something against the baseline")
    out = []
    for subset, name in cells(factors, baseline).items():
        if len(subset) < 2:
            continue
        made = _combination(name, named[baseline], [named[f] for f in subset], where)
        if name not in named:
            out.append(made)
        elif _content(named[name]) != _content(made):
            raise UserError(f"{where}: the arm {name} is another than the combination, {_shown(made)}; rename it, or leave it out")
    return out


def _combination(name: str, base: Variant, arms: Sequence[Variant], where: str) -> Variant:
    for a, b in itertools.combinations(arms, 2):
        if both := sorted(_changed(base, a) & _changed(base, b)):
            raise UserError(f"{where}: {a.name} and {b.name} both change {both[0]}; a factor changes what no other one does")
    weights = next((arm for arm in arms if "weights" in _changed(base, arm)), base)
    cfgs = [arm.cfg for arm in arms if find_parts(Path(arm.cfg)) != find_parts(Path(base.cfg))]
    return Variant(
        name=folder_name(name, where),
        cfg=_joined(base.cfg, cfgs, where) if len(cfgs) > 1 else [base.cfg, *cfgs][-1],
        hyp=_merged(base.hyp, [arm.hyp for arm in arms]),
        flags=_merged(base.flags, [arm.flags for arm in arms]),
        weights=weights.weights,
        weights_digest=weights.weights_digest,
    )


def _changed(base: Variant, arm: Variant) -> set[str]:
    """The settings in which an arm differs from the baseline."""
    before, now = base.own_settings, arm.own_settings
    return {key for key in {**before, **now} if (key in before, before.get(key)) != (key in now, now.get(key))}


def _merged(base: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The baseline's own settings with what each arm changes; one that an arm lacks is the study's again."""
    out = dict(base)
    for own in arms:
        out = {key: value for key, value in out.items() if key in own or key not in base}
        out |= {key: value for key, value in own.items() if key not in base or base[key] != value}
    return out


def _joined(base: str, cfgs: Sequence[str], where: str) -> str:
    """The model with the edits of several variants of the baseline's model."""
    parts: list[Path] = []
    for cfg in cfgs:
        path = Path(cfg)
        if not {*_parts(Path(base))} < {*_parts(path)} and base_of(path) != ModelSpec.from_yaml(base):
            raise UserError(f"{where}: {cfg} is no variant of the baseline's model {base}, so it cannot be combined with another model")
        parts += [part for part in _parts(path) if part not in parts]
    return "+".join(map(str, parts))


def _parts(path: Path) -> list[Path]:
    parts = combined(path) if len(find_parts(path)) > 1 else [path]
    return [part if part.suffix in (".yaml", ".yml") else part.with_name(f"{part.name}.yaml") for part in parts]


def _content(arm: Variant) -> tuple[ModelSpec | str, Mapping[str, Any]]:
    try:
        return ModelSpec.from_yaml(arm.cfg), arm.own_settings
    except UserError:  # it cannot be built, as is said for that arm alone
        return arm.cfg, arm.own_settings


def _shown(arm: Variant) -> str:
    return " ".join([arm.cfg, *(f"{key}={value}" for key, value in arm.own_settings.items())])
