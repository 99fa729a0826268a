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
    from utils.compare.statistics import Comparison, VariantRuns


def compare(study: Study, resamples: int) -> Study:
    """Compare all variants with the baseline, by the EMA weights of the last epoch, and save the comparisons.

    Raises:
        UserError: damaged matches, or the file cannot be written.
    """
    from utils.compare.statistics import compare_variants

    base, others = study.plan.baseline, [v for v in study.variants if not v.baseline]
    found = compare_variants(_runs(study, base.name), [_runs(study, v.name) for v in others], study.plan.seeds, resamples=resamples)
    data = study.plan.data
    if data.overlap:
        count = f"{data.overlap} of the {data.splits[data.measured].images} images of the {data.measured} split"
        reason = f"{count} are also trained on, so no gain can be claimed"
        found = tuple(dataclasses.replace(c, verdict="no verdict", reason=reason) for c in found)
    comparisons = {c.name: c for c in found}
    content = {"of": _identity(study.plan, study.runs), "resamples": resamples}
    write_json(study.folder / COMPARISONS, {**content, "variants": {k: dataclasses.asdict(c) for k, c in comparisons.items()}})
    return dataclasses.replace(study, comparisons=comparisons)


def _runs(study: Study, variant: str) -> VariantRuns:
    from utils.compare.statistics import VariantRuns

    done = [r for r in study.runs_of(variant) if r.state == "done"]
    matches = {r.seed: functools.partial(study.matches, variant, r.seed) for r in done}
    return VariantRuns(variant, matches, {r.seed: r.made_with for r in done})


def _identity(plan: StudyPlan, runs: tuple[RunResult, ...]) -> str:
    """Digest of everything the comparisons depend on."""
    rows = [[r.variant, r.seed, r.state, r.made_with, r.last.ap if r.last else None] for r in runs]
    return digest([rows, plan.baseline.name, plan.data.overlap, [v.name for v in plan.variants]])


def read_comparisons(path: Path, plan: StudyPlan, runs: tuple[RunResult, ...]) -> dict[str, Comparison]:
    """The saved comparisons; none if they are of other runs, or damaged."""
    from utils.compare.statistics import Comparison

    content = read_json(path) or {}
    if content.get("of") != _identity(plan, runs):
        return {}
    try:
        return dict(typed(Mapping[str, Comparison], content.get("variants"), "variants"))
    except TypeError:
        return {}
