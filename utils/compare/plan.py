"""Making the plan of a study from the command line, and reconciling it with the one already in the study folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import load_plugins
from models.weights.load import read_weights
from utils.compare.capacity_control import controls
from utils.compare.combinations import missing_cells
from utils.compare.config import CompareConfig, parse_seeds, result_flags
from utils.compare.data_plan import DataPlan, SplitPlan
from utils.compare.folds import pool, pool_groups
from utils.compare.groups import image_groups
from utils.compare.others import read_given
from utils.compare.provenance import data_digest, versions
from utils.compare.reset_control import reset_controls
from utils.compare.study import StudyPlan, Variant
from utils.compare.tuning import tuning_plan
from utils.compare.variants import choose_baseline, read_variants, variant_name, with_edits
from utils.config import Hyp
from utils.data.config import load_data
from utils.data.fingerprint import file_digests
from utils.data.preflight import check
from utils.data.scan import load_index
from utils.device import cpu_count
from utils.errors import UserError, nearest
from utils.log import LOG, abbreviated
from utils.versions import file_digest

METRIC = "COCO AP: IoU 0.50 to 0.95, 101 recall points, 100 detections per class and image; EMA weights"


def make_plan(config: CompareConfig, hyp: Hyp, command: str, jobs: int, arms: Sequence[Variant] = ()) -> StudyPlan:
    """Read everything named on the command line and fix what the study will do; nothing is written.

    Raises:
        UserError: invalid models, data, weights or plug-ins.
    """
    load_plugins(config.plugins)
    per_seed, seeds = config.folds or 1, parse_seeds(config.seeds)
    data, names = read_data(config)
    if config.factors:
        given = [*(Variant(name=variant_name(cfg), cfg=cfg) for cfg in config.cfgs), *arms]
        base = variant_name(config.baseline) if config.baseline else given[0].name
        arms = [*arms, *missing_cells(given, base, config.factors)]
    variants = read_variants(config.cfgs, names, config.imgsz, arms=arms, hyp=hyp)
    weights = str(read_weights(config.weights).source.resolve()) if config.weights else ""
    plan = StudyPlan(
        name=config.name,
        command=command,
        variants=tuple(variants),
        seeds=tuple(seed * per_seed + fold for seed in seeds for fold in range(per_seed)),
        planned=(config.max_seeds or len(seeds)) * per_seed,
        data=data,
        weights=weights,
        weights_digest=file_digest(weights) if weights else "",
        flags=result_flags(config),
        hyp=dataclasses.asdict(hyp),
        plugins={str(Path(p).resolve()): file_digest(p) for p in config.plugins},
        metric=METRIC,
        threads=max(cpu_count() // jobs, 1),
        control=config.control,
        versions=versions(),
        factors=config.factors,
        pairs=config.pairs,
        tuning=tuning_plan(config),
        stop_hopeless=config.stop_hopeless,
    )
    return dataclasses.replace(plan, predictions=read_given(config.predictions, [v.name for v in variants], plan))


def read_data(config: CompareConfig) -> tuple[DataPlan, dict[int, str]]:
    """Read every split, and choose the one that figures are reported on.

    Raises:
        UserError: the dataset is missing, or has nothing to train on.
    """
    data = load_data(config.data)
    # where val is missing, test serves as val, and there is no third split to report on
    own_test = "test" in data.splits and data.splits["test"] != data.splits.get("val") and not config.folds
    splits = ("train", "val", "test") if own_test else ("train", "val")
    indices = {s: load_index(data, s, single_cls=config.single_cls, classes=config.classes) for s in splits}
    for index in indices.values():
        index.report.log()
    check(data, indices, must_measure=True)
    measured = "test" if own_test else "val"
    train = indices["train"].paths
    content = set(file_digests(train))
    overlap = 0 if config.folds else sum(digest in content for digest in file_digests(indices[measured].paths))
    if config.folds:
        groups = pool_groups(config.group, pool([indices["train"], indices["val"]])[0], config.folds)
    else:
        groups = image_groups(config.group, indices[measured].paths) if config.group else ()
    if overlap:
        LOG.warning("%s: %d images of '%s' or their copies are trained on; no gain can be claimed on them", config.data, overlap, measured)
    names = indices["train"].names
    plan = DataPlan(
        source=str(data.yaml.resolve()),
        names=tuple(names[c] for c in range(len(names))),
        splits={s: SplitPlan(images=len(i), objects=int((~i.crowds).sum()), digest=data_digest(i)) for s, i in indices.items()},
        measured=measured,
        overlap=overlap,
        group=config.group,
        groups=groups,
        folds=config.folds,
    )
    return plan, names


def reconcile_plan(plan: StudyPlan, old: StudyPlan | None, baseline: str) -> StudyPlan:
    """Reconcile a plan with the one that the study has, choose the baseline, and add the controls.

    Seeds and variants may be added, a variant that could not be built may be fixed, and factors and pairs may be chosen, since they only
    add comparisons. Everything else must be unchanged.

    Raises:
        UserError: the plans differ, with the differences; or fewer than two variants.
    """
    names = dict(enumerate(plan.data.names))
    if old is None:
        variants = choose_baseline(baseline, plan.variants)
    else:
        if changes := differences(old, plan, baseline):
            shown = "".join(f"\n  {line}" for line in changes)
            raise UserError(f"the study '{old.name}' has another plan; use another --name, or undo these changes:{shown}")
        variants = _merged(old.variants, plan.variants)
        seeds = tuple(sorted({*old.seeds, *plan.seeds}))
        looks = (*old.looks, len(old.seeds)) if seeds != old.seeds else old.looks
        plan = dataclasses.replace(plan, seeds=seeds, planned=old.planned, looks=looks, threads=old.threads, versions=old.versions)
        plan = dataclasses.replace(plan, factors=plan.factors or old.factors, pairs=plan.pairs or old.pairs)
        added = {p.name: p for p in plan.predictions if p.name not in {before.name for before in old.predictions}}
        plan = dataclasses.replace(plan, predictions=(*old.predictions, *added.values()))
    if len([v for v in variants if not v.control_of]) < 2:
        raise UserError("--cfgs: only one variant; a comparison needs at least two models, the baseline first")
    variants = [with_edits(v, variants[0]) for v in variants]
    for kind in plan.control:
        have = {v.control_of for v in variants if bool(v.reset) == (kind == "reset")}
        lacking = [v for v in variants if v.baseline or (v.name not in have and not v.control_of)]
        variants += reset_controls(lacking, plan) if kind == "reset" else controls(lacking, kind, names, plan.flags["imgsz"], plan.weights)
    check_pairs(plan.pairs, variants)
    if old is not None and len(variants) == len(old.variants) and plan.seeds == old.seeds:
        plan = dataclasses.replace(plan, command=old.command)
    return dataclasses.replace(plan, variants=tuple(variants))


def _merged(old: Sequence[Variant], new: Sequence[Variant]) -> list[Variant]:
    """The old variants, replaced where they could not be built or are damaged, then the added ones, then the controls."""
    found = {v.name: v for v in new}
    kept = []
    for before in old:
        now = found.pop(before.name, before)
        kept.append(now if before.error else dataclasses.replace(before, spec=before.spec or now.spec))
    added = found.values()
    return [*(v for v in kept if not v.control_of), *added, *(v for v in kept if v.control_of)]


def check_pairs(pairs: Sequence[str], variants: Sequence[Variant]) -> None:
    """Check the arms of ``--pairs``.

    Raises:
        UserError: one that the study does not have, or a single one.
    """
    names = [v.name for v in variants]
    for name in () if pairs == ("all",) else pairs:
        if name not in names:
            raise UserError(f"--pairs {name}: no such variant{nearest(name, names)} (available: {', '.join(names)})")
    if pairs and pairs != ("all",) and len(set(pairs)) < 2:
        raise UserError(f"--pairs {pairs[0]}: name at least two variants, or all")


def differences(old: StudyPlan, new: StudyPlan, baseline: str) -> list[str]:
    """Describe what differs in two plans of a study, one line each, except for added seeds and variants."""
    lines = _data_changes(old.data, new.data) + _changes("--", old.flags, new.flags)
    if new.planned not in (old.planned, len(new.seeds)):
        lines.append(f"--max-seeds: {old.planned} before, {new.planned} now; it is fixed before the first look")
    lines += _changes("--", old.hyp, new.hyp) + _changes("plug-in ", old.plugins, new.plugins)
    if old.weights_digest != new.weights_digest:
        lines.append(f"--weights: {old.weights or 'none'} before, {new.weights or 'none'} now (other content)")
    if old.control != new.control:
        lines.append(f"--control: {', '.join(old.control) or 'none'} before, {', '.join(new.control) or 'none'} now")
    known = {p.name: p.digest[:16] for p in old.predictions}
    lines += _changes("--predictions ", known, {**known, **{p.name: p.digest[:16] for p in new.predictions if p.name in known}})
    lines += _changes("--", {"tune": old.tuning}, {"tune": new.tuning})
    if baseline and baseline != old.baseline.cfg and variant_name(baseline) != old.baseline.name:
        lines.append(f"--baseline: {old.baseline.name} before, {baseline} now")
    for variant in new.variants:
        before = next((v for v in old.variants if v.name == variant.name and not v.error), None)
        if before and before.digest != variant.digest:
            now = f"{variant.parameters:,} parameters" if not variant.error else variant.error
            lines.append(f"{variant.name}: another model ({before.parameters:,} parameters before, {now} now)")
        if before:
            lines += _changes(f"{variant.name}: ", before.own_settings, variant.own_settings)
    return lines


def _changes(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = []
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            before, now = ("none" if value is None else str(value)[:80] for value in (old.get(name), new.get(name)))
            lines.append(f"{prefix}{name.replace('_', '-') if prefix == '--' else name}: {before} before, {now} now")
    return lines


def _data_changes(old: DataPlan, new: DataPlan) -> list[str]:
    if old.folds != new.folds:
        return [f"--folds: {old.folds or 'none'} before, {new.folds or 'none'} now"]
    if old.group != new.group or (new.group and old.groups != new.groups):
        return [f"--group: {old.group or 'none'} before, {new.group or 'none'} now"]
    if old.names != new.names:
        return [f"--data: {len(old.names)} classes ({abbreviated(old.names)}) before, {len(new.names)} ({abbreviated(new.names)}) now"]
    lines = []
    for split in dict.fromkeys([*old.splits, *new.splits]):
        a, b = old.splits.get(split), new.splits.get(split)
        if a is None or b is None:
            lines.append(f"--data: the {split} split {'was added' if a is None else 'is missing'}")
        elif a.digest != b.digest:
            counts = f"{a.images} images, {a.objects} objects before, {b.images}, {b.objects} now"
            lines.append(f"--data: the {split} split has other images or annotations ({counts})")
    return lines
