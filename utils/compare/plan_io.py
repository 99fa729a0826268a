"""study.yaml: the plan of a study in a file."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from utils.compare.checksummed_json import MAX_BYTES, digest, write_text
from utils.compare.config import MAX_NAME, arm_flags
from utils.compare.factors import MOST, cells
from utils.compare.study import PLAN, StudyPlan, Variant, model_file
from utils.config import Hyp, TrainConfig
from utils.errors import UserError
from utils.files.plain_data import typed
from utils.files.safe_open import read_regular
from utils.files.yaml_file import read_yaml

FORMAT = 2
_NEEDED = ("epochs", "batch_size", "imgsz", "noval", "single_cls", "classes", "nms")
"""Flags that every plan has."""
_HEAD = "# The plan of a study. compare.py refuses to continue with another plan; use another --name instead of editing this file.\n"


def write_plan(folder: Path, plan: StudyPlan) -> None:
    """Write the resolved models, then study.yaml.

    Raises:
        UserError: it cannot be written.
    """
    for variant in plan.variants:
        if variant.spec:
            # YAML that is also JSON, which is read a hundred times faster; one row per line
            parts = []
            for key, value in variant.spec.items():
                rows = ",\n".join(f"  {json.dumps(row)}" for row in value) if key in ("backbone", "head") else ""
                parts.append(f"{json.dumps(key)}: " + (f"[\n{rows}\n]" if rows else json.dumps(value)))
            write_text(model_file(folder, variant.name), "{" + ",\n".join(parts) + "}\n")
    content = {"attune_study": FORMAT, **_plain(plan)}
    for entry in content["variants"]:
        del entry["spec"]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=140)
    write_text(folder / PLAN, _HEAD + text)


def _plain(value: Any) -> Any:
    """Dataclasses, mappings and tuples as plain data, which YAML writes without tags."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def read_plan(folder: Path) -> StudyPlan:
    """Read study.yaml.

    Raises:
        UserError: missing or invalid.
    """
    path = folder / PLAN
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        raise UserError(f"{folder}: no study there (no {PLAN}); give a folder made by compare.py")
    content = read_yaml(path)
    version = content.pop("attune_study", None)
    if version != FORMAT:
        raise UserError(f"{path}: the plan has version {version}, but this program reads version {FORMAT}; use another --name")
    try:
        return _parsed(content, folder)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a valid plan of a study ({error}); use another --name") from error


def _parsed(content: dict[str, Any], folder: Path) -> StudyPlan:
    plan: StudyPlan = typed(StudyPlan, content)
    flags: TrainConfig = typed(TrainConfig, dict(plan.flags))
    if sum(v.baseline for v in plan.variants) != 1 or not plan.seeds:
        raise ValueError("exactly one variant must be the baseline, and there must be a seed")
    if len({v.name for v in plan.variants}) != len(plan.variants) or len(set(plan.seeds)) != len(plan.seeds):
        raise ValueError("a variant or seed is there twice")
    if not 1 <= plan.planned <= 1 << 20 or (
        plan.data.groups and not plan.data.folds and len(plan.data.groups) != plan.data.splits[plan.data.measured].images
    ):
        raise ValueError("planned seeds or groups are impossible")
    named = {v.name for v in plan.variants}
    if any(Path(p.name).name != p.name or p.name in ("", "..") or p.name in named for p in plan.predictions):
        raise ValueError("invalid name of predictions")
    if len(plan.factors) > MOST or not {*cells(plan.factors, plan.baseline.name).values(), *plan.pairs} <= {*named, "all"}:
        raise ValueError("factors or pairs name no variant")
    if plan.data.folds and not 2 <= plan.data.folds <= len(set(plan.data.groups)):
        raise ValueError("folds are impossible")
    if not 0 <= plan.stop_hopeless < math.inf:
        raise ValueError("stop_hopeless is impossible")
    if not {"train", "val", plan.data.measured} <= set(plan.data.splits) or not 1 <= plan.threads <= 4096 or min(plan.seeds) < 0:
        raise ValueError("splits, threads or seeds are impossible")
    return dataclasses.replace(
        plan,
        variants=tuple(_with_model(_with_settings(v, plan), folder) for v in plan.variants),
        flags={name: getattr(flags, name) for name in (*plan.flags, *_NEEDED)},
    )


def _with_settings(variant: Variant, plan: StudyPlan) -> Variant:
    """A variant with settings of the types that flags and hyper-parameters have."""
    flags: TrainConfig = typed(TrainConfig, dict(plan.of(variant).flags))
    typed(Hyp, dict(plan.of(variant).hyp))
    if not set(variant.flags) <= set(arm_flags()):
        raise ValueError(f"{variant.name} has settings that no arm can have")
    return dataclasses.replace(variant, flags={name: getattr(flags, name) for name in variant.flags})


def _with_model(variant: Variant, folder: Path) -> Variant:
    """A variant with its resolved model, which is empty if missing or not the planned one."""
    if Path(variant.name).name != variant.name or variant.name in ("", "..") or len(os.fsencode(variant.name)) > MAX_NAME:
        raise ValueError(f"invalid variant name {variant.name!r}")
    try:
        spec = {} if variant.error else json.loads(read_regular(model_file(folder, variant.name), MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        spec = {}
    return dataclasses.replace(variant, spec=spec) if isinstance(spec, dict) and digest(spec) == variant.digest else variant
