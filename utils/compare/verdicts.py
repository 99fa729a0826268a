"""Comparing the runs of a study, and saving the comparisons, since the bootstrap takes time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from utils.compare.checksummed_json import digest, read_json, write_json
from utils.compare.study import COMPARISONS, RunResult, Study, StudyPlan
from utils.files.plain_data import typed

if TYPE_CHECKING:
    from utils.compare.statistics import Comparison


def compare(study: Study, resamples: int) -> Study:
    """Compare all variants with the baseline, by the EMA weights of the last epoch, and save the comparisons.

    The variants are one family. Controls are another, so that they do not widen the variants' intervals, and each variant is tested
    directly against its own controls, which is a third.

    Raises:
        UserError: damaged matches, or the file cannot be written.
    """
    from utils.compare.measured_runs import VariantRuns
    from utils.compare.statistics import Analysis

    plan, base = study.plan, study.plan.baseline.name
    controls = {v.name: v.control_of for v in study.variants if v.control_of}
    variants = [v.name for v in study.variants if not v.baseline and not v.control_of]
    runs = []
    for name in (v.name for v in study.variants):
        done = [r for r in study.runs_of(name) if r.state == "done"]
        matches = {r.seed: functools.partial(study.matches, name, r.seed) for r in done}
        runs.append(VariantRuns(name, matches, {r.seed: r.made_with for r in done}))
    analysis = Analysis(runs, plan.seeds, look=plan.look, groups=plan.data.groups, resamples=resamples)
    found = {c.name: c for names in (variants, [*controls]) for c in analysis.compare(base, names)}
    direct = {name: analysis.compare(name, [variant], tests=len(controls))[0] for name, variant in controls.items()}
    if plan.data.overlap:
        count = f"{plan.data.overlap} of the {plan.data.splits[plan.data.measured].images} images of the {plan.data.measured} split"
        why = f"{count} are also trained on, so no gain can be claimed"
        found, direct = ({k: dataclasses.replace(c, verdict="no verdict", reason=why) for k, c in each.items()} for each in (found, direct))
    content: dict[str, object] = {"of": _identity(plan, study.runs), "resamples": resamples}
    for key, each in (("variants", found), ("controls", direct)):
        content[key] = {name: dataclasses.asdict(c) for name, c in each.items()}
    write_json(study.folder / COMPARISONS, content)
    return dataclasses.replace(study, comparisons=found, control_tests=direct)


def _identity(plan: StudyPlan, runs: tuple[RunResult, ...]) -> str:
    """Digest of everything the comparisons depend on."""
    rows = [[r.variant, r.seed, r.state, r.made_with, r.last.ap if r.last else None] for r in runs]
    variants = [[v.name, v.control_of] for v in plan.variants]
    return digest([rows, plan.baseline.name, plan.data.overlap, plan.data.group, str(plan.look), variants])


def read_comparisons(path: Path, plan: StudyPlan, runs: tuple[RunResult, ...]) -> tuple[dict[str, Comparison], dict[str, Comparison]]:
    """The saved comparisons of the variants, and of each control with its variant; none if they are of other runs, or damaged."""
    from utils.compare.statistics import Comparison

    content = read_json(path) or {}
    if content.get("of") != _identity(plan, runs):
        return {}, {}
    try:
        variants, controls = (dict(typed(Mapping[str, Comparison], content.get(key), key)) for key in ("variants", "controls"))
    except TypeError:
        return {}, {}
    return variants, controls
