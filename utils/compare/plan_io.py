"""study.yaml: the plan of a study in a file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from utils.compare.checksummed_json import digest, write_text
from utils.compare.study import PLAN, DataPlan, SplitPlan, StudyPlan, Variant, model_file
from utils.config import read_yaml
from utils.errors import UserError

FORMAT = 1
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
    data = content["data"]
    splits = {str(name): SplitPlan(**split) for name, split in data["splits"].items()}
    plan = StudyPlan(
        **{
            **content,
            "variants": tuple(_variant(v, folder) for v in content["variants"]),
            "seeds": tuple(int(seed) for seed in content["seeds"]),
            "data": DataPlan(**{**data, "names": tuple(map(str, data["names"])), "splits": splits}),
            "flags": {k: tuple(v) if isinstance(v, list) else v for k, v in content["flags"].items()},
        }
    )
    if sum(v.baseline for v in plan.variants) != 1 or not plan.seeds:
        raise ValueError("exactly one variant must be the baseline, and there must be a seed")
    return plan


def _variant(content: dict[str, Any], folder: Path) -> Variant:
    """A variant with its resolved model, which is empty if missing or not the planned one."""
    variant = Variant(**{**content, "edits": tuple(content["edits"])})
    if Path(variant.name).name != variant.name or variant.name in ("", ".."):
        raise ValueError(f"invalid variant name {variant.name!r}")
    try:
        spec = {} if variant.error else json.loads(model_file(folder, variant.name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        spec = {}
    return dataclasses.replace(variant, spec=spec) if isinstance(spec, dict) and digest(spec) == variant.digest else variant
