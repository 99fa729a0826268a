"""The variants of a study, read from model YAMLs."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from models import build_model
from models.flops import gflops, parameters
from models.spec.combine import find_parts, read_model
from models.spec.model_spec import ModelSpec
from models.spec.rows import joined, thaw
from utils.compare.checksummed_json import digest
from utils.compare.config import MAX_NAME
from utils.compare.study import Variant
from utils.config import Hyp
from utils.errors import UserError, nearest
from utils.geometry import training_side
from utils.log import LOG, printable
from utils.training.losses.criterion import build_criterion

CONTROL, RESET = "control-", "reset-"
"""Beginnings of the names of controls."""


def read_variants(
    cfgs: Sequence[str], names: dict[int, str], imgsz: int, *, arms: Sequence[Variant] = (), hyp: Hyp | None = None
) -> list[Variant]:
    """Read, build and measure each model; one that cannot be built is kept, with the reason.

    Args:
        names: class names.
        imgsz: image size for counting operations.
        arms: variants with settings of their own, not built yet.
        hyp: the study's hyper-parameters.

    Raises:
        UserError: no such file, two models of one name, or two arms that are the same.
    """
    taken: dict[str, str] = {}
    wanted = [*(Variant(name=variant_name(cfg), cfg=cfg) for cfg in cfgs), *arms]
    for variant in wanted:
        find_parts(Path(variant.cfg))
        name, cfg = variant.name, variant.cfg
        if name in taken:
            same = taken[name] == cfg
            raise UserError(
                f"--cfgs: {cfg} is given twice" if same else f"--cfgs: {taken[name]} and {cfg} are both called {name}; rename one"
            )
        taken[name] = cfg
    variants: list[Variant] = []
    for variant in wanted:
        try:
            built = _built(variant, names, imgsz, hyp or Hyp())
        except UserError as error:
            LOG.warning("%s cannot be built; continuing with the other variants: %s", variant.name, error)
            variants.append(dataclasses.replace(variant, error=str(error)))
            continue
        if equal := next((v for v in variants if (v.digest, v.own_settings) == (built.digest, built.own_settings)), None):
            raise UserError(f"{equal.name} and {built.name} are the same model with the same settings; remove one of them")
        variants.append(built)
    return variants


def _built(variant: Variant, names: dict[int, str], imgsz: int, hyp: Hyp) -> Variant:
    """Build a variant and the criterion that would train it, and count its parameters and operations.

    Raises:
        UserError: one of them cannot be built.
    """
    spec = ModelSpec.from_yaml(variant.cfg)
    if spec.ch != 3:
        raise UserError(f"{variant.cfg}: has {spec.ch} input channels, but images have 3; set 'ch: 3'")
    side = variant.flags.get("imgsz", imgsz)
    variant = with_capacity(dataclasses.replace(variant, edits=list_edits(variant.cfg), spec=spec_dict(spec)), names, side)
    with torch.device("meta"):
        model = build_model(spec, len(names), names=names)
        build_criterion(model, dataclasses.replace(hyp, **variant.hyp), side)  # type: ignore[arg-type]
    return variant


def variant_name(cfg: str) -> str:
    """A variant's name: the file name without suffix, valid as a folder name."""
    paths = [Path(part) for part in (cfg.split("+") if ".yaml+" in cfg else [cfg])]
    return folder_name("+".join(p.stem if p.suffix in (".yaml", ".yml") else p.name for p in paths), f"--cfgs: {cfg}")


def folder_name(name: str, where: str) -> str:
    """A name made valid as that of a folder.

    Raises:
        UserError: it is empty, hidden, too long, looks like a flag or like a control.
    """
    name = printable(name).replace("/", "?").strip()
    if len(os.fsencode(name)) > MAX_NAME:
        raise UserError(f"{where}: the variant name {name[:20]}... has more than {MAX_NAME} bytes; rename it")
    if not name or name.startswith((".", "-", CONTROL, RESET)):
        raise UserError(f"{where}: invalid variant name {name!r}; rename it")
    return name


def choose_baseline(wanted: str, variants: Sequence[Variant]) -> list[Variant]:
    """Mark the baseline, the first by default, and put it first.

    Raises:
        UserError: no such variant, or one that cannot be built.
    """
    names = [v.name for v in variants]
    name = variant_name(wanted) if wanted else names[0]
    if name not in names:
        raise UserError(f"--baseline {wanted}: no such variant{nearest(name, names)} (available: {', '.join(names)})")
    chosen = next(v for v in variants if v.name == name)
    if chosen.error:
        raise UserError(f"the baseline cannot be built: {chosen.error}")
    return [dataclasses.replace(chosen, baseline=True), *(v for v in variants if v.name != name)]


def with_capacity(variant: Variant, names: dict[int, str], imgsz: int) -> Variant:
    """Add the number of parameters and operations.

    Raises:
        UserError: the model cannot be built.
    """
    spec = ModelSpec.from_dict(variant.spec, variant.cfg).finished()
    model = build_model(spec, len(names), names=names)
    operations = gflops(model, training_side(imgsz, model.max_stride))
    return dataclasses.replace(variant, parameters=parameters(model), gflops=operations, digest=digest(variant.spec))


def spec_dict(spec: ModelSpec) -> dict[str, Any]:
    """The resolved model as plain data, with absolute paths of the weights that its rows load."""
    content = spec.to_dict()
    rows = [*content["backbone"], *content["head"]]
    for row, plain in zip(spec.rows, rows, strict=True):
        if pretrained := row.keywords.get("pretrained"):
            file = pretrained if pretrained is True else str(Path(pretrained).resolve())
            plain[3] = joined(row.args, {**row.keywords, "pretrained": file})
    return {**content, "names": None}


def list_edits(cfg: str | Path, folder: Path = Path()) -> tuple[str, ...]:
    """The edits of a variant's YAML and of its bases, one line each; empty for a classic file."""
    content, path, _ = read_model(Path(cfg), folder)
    base = content.get("base")
    if not isinstance(base, str):
        return ()
    own = [_describe(edit) for edit in content.get("edits", ())]
    return (*list_edits(base, path.parent), *own)


def _describe(edit: Mapping[str, Any]) -> str:
    gate = f", gate {edit['gate']}" if edit.get("gate") else ""
    source = f", from {edit['from']}" if "from" in edit else ""
    if "insert" in edit:
        return f"after row {edit['after']}: insert {_module(edit['insert'])}{source}{gate}"
    if "with" in edit:
        return f"row {edit['replace']}: {_module(edit['with'])} in its place{source}{gate}"
    if "replace" in edit:
        return f"row {edit['replace']}: reads {edit['from']}"
    return f"row {edit['remove']}: removed"


def _module(row: Sequence[Any]) -> str:
    repeats, name, args = row[-3:]
    return f"{repeats} x {name} {args}" if repeats != 1 else f"{name} {args}"


def with_edits(variant: Variant, baseline: Variant) -> Variant:
    """Add the differences to the baseline's rows to a variant whose YAML lists no edits."""
    if variant.edits or variant.error or variant.baseline or variant.control_of:
        return variant
    old, new = baseline.spec, variant.spec
    before, after = ([f"{r[2]} {thaw(r[3])}" for r in (*s["backbone"], *s["head"])] for s in (old, new))
    changes = [f"{key} {old[key]} -> {new[key]}" for key in ("depth_multiple", "width_multiple", "activation") if old[key] != new[key]]
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != "equal":
            changes.append(f"rows from {a}: {', '.join(before[a:b]) or 'nothing'} -> {', '.join(after[c:d]) or 'nothing'}")
    return dataclasses.replace(variant, edits=tuple(changes))
