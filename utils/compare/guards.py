"""Warnings about a study's protocol: what makes a difference between arms say something else than it seems to."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from utils.compare.study import RunResult, StartingPoint, Study, StudyPlan, Variant
from utils.log import abbreviated

_FAR_BELOW = 0.5
"""Share of the baseline's starting AP below which an arm starts far below it."""


def warnings(study: Study) -> list[str]:
    """What the runs so far show, with figures, one sentence each."""
    return [*plan_warnings(study.plan), *_rising(study), *_starts(study)]


def plan_warnings(plan: StudyPlan) -> list[str]:
    """What the plan alone shows, one sentence each."""
    out = []
    if plan.data.measured == "val":
        chosen = "the best epoch and the tuned hyper-parameters are" if plan.tuning else "the best epoch is"
        out.append(f"There is no test split: {chosen} selected on the images on which figures are reported.")
    if ungated := {v.name: rows for v in plan.variants if not v.control_of and plan.of(v).weights and (rows := _ungated(v))}:
        arms = "; ".join(f"{name}: {abbreviated(rows)}" for name, rows in ungated.items())
        out.append(
            f"Changes without a gate to pretrained weights lower the starting AP ({arms}); with gate: zero an arm starts as its base."
        )
    base = plan.baseline
    own = {v.name: sorted({"lr0", "lrf"} & v.hyp.keys() - base.hyp.keys()) for v in plan.variants}
    out += [
        f"{name} has a learning rate of its own ({', '.join(rates)}), {base.name} has the default." for name, rates in own.items() if rates
    ]
    return out


def _ungated(variant: Variant) -> list[str]:
    """The inserted and replacing rows that change what a pretrained model computes at once."""
    spec = variant.spec
    if not spec:
        return []
    table = [*spec["backbone"], *spec["head"]]
    origins, gates = spec.get("identities", []), spec.get("gates", [])
    rows = zip(table, origins, gates, strict=False)
    return [f"{row[2]} in row {number}" for number, (row, origin, gate) in enumerate(rows) if ("+" in origin or "=" in origin) and not gate]


def _done(study: Study, variant: str) -> Sequence[RunResult]:
    return [run for run in study.runs_of(variant) if run.state == "done"]


def _rising(study: Study) -> list[str]:
    """The arms whose AP, mean over the seeds, still rises in the last tenth of the epochs."""
    from utils.training.curve_checks import AP, still_rising  # scipy, which --help does without

    slopes = {}
    for variant in study.variants:
        curves = [[row.get(AP, math.nan) for row in run.curve] for run in _done(study, variant.name)]
        means = [statistics.fmean(epoch) for epoch in zip(*curves, strict=False)]  # a run may have fewer epochs
        if means and (slope := still_rising(means)):
            slopes[variant.name] = slope
    if not slopes:
        return []
    figures = ", ".join(f"{name} by {100 * slope:.2f} points an epoch" for name, slope in slopes.items())
    return [f"AP still rises at the end of the training: {figures}. More epochs may change the order."]


def _starts(study: Study) -> list[str]:
    base, out = start_of(study, study.plan.baseline.name), []
    if base is None:
        return []
    for variant in study.variants:
        own = start_of(study, variant.name)
        if variant.baseline or variant.reset or own is None:
            continue
        if (lost := base.tensors - own.tensors) > 0 and own.of == base.of:
            remedy = (
                "" if any(v.control_of == variant.name and v.reset for v in study.variants) else "; --control reset shows what that costs"
            )
            out.append(
                f"{variant.name} loses {lost} of the {base.tensors} pretrained tensors that {study.plan.baseline.name} keeps{remedy}."
            )
        if own.ap < _FAR_BELOW * base.ap:
            from_to = f"{100 * own.ap:.1f} instead of {100 * base.ap:.1f} points"
            out.append(f"{variant.name} starts far below {study.plan.baseline.name}: AP {from_to} before the first step.")
    return out


def start_of(study: Study, variant: str) -> StartingPoint | None:
    """Where the runs of a variant start, its AP a mean over the seeds; None for a training from scratch, or if no run is done."""
    starts = [run.start for run in _done(study, variant) if run.start]
    return dataclasses.replace(starts[0], ap=statistics.fmean(s.ap for s in starts)) if starts else None
