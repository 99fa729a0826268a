"""Comparing the runs of a study, and saving the comparisons, since the bootstrap takes time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.compare.checksummed_json import digest, read_json, write_json
from utils.compare.study import COMPARISONS, RunResult, Study, StudyPlan
from utils.files.plain_data import typed

if TYPE_CHECKING:
    from utils.compare.statistics import Analysis, Comparison


def compare(study: Study, resamples: int, *, save: bool = True) -> Study:
    """Compare all variants with the baseline, by the EMA weights of the last epoch, and by default save the comparisons.

    The variants are one family. Controls are another, so that they do not widen the variants' intervals, and each variant is tested
    directly against its own controls, which is a third. The pairs of arms are a family, and so are the effects of factors and the
    predictions of others.

    Raises:
        UserError: damaged matches, or the file cannot be written.
    """
    from utils.compare.effects import factor_effects
    from utils.compare.measured_runs import VariantRuns
    from utils.compare.others import compare_others
    from utils.compare.statistics import Analysis

    plan, base = study.plan, study.plan.baseline.name
    controls = {v.name: v.control_of for v in study.variants if v.control_of}
    variants = [v.name for v in study.variants if not v.baseline and not v.control_of]
    runs = []
    for name in (v.name for v in study.variants):
        done = [r for r in study.runs_of(name) if r.state == "done"]
        matches = {r.seed: functools.partial(study.matches, name, r.seed) for r in done}
        stopped = next((r.error for r in study.runs_of(name) if r.state == "stopped"), "")
        runs.append(VariantRuns(name, matches, {r.seed: r.made_with for r in done}, stopped))
    folds = plan.data.folds
    sharing, groups = (1 / (folds - 1), ()) if folds else (0.0, plan.data.groups)
    analysis = Analysis(runs, plan.seeds, look=plan.look, sharing=sharing, groups=groups, resamples=resamples)
    found = {c.name: c for names in (variants, [*controls]) for c in analysis.compare(base, names)}
    direct = {name: analysis.compare(name, [variant], tests=len(controls))[0] for name, variant in controls.items()}
    pairs = _pairs(analysis, plan)
    effects = factor_effects(analysis, plan.factors, base) if plan.factors else ()
    others = compare_others(study.folder, plan, next(r for r in runs if r.name == base), resamples) if plan.predictions else {}
    if plan.data.overlap:
        count = f"{plan.data.overlap} of the {plan.data.splits[plan.data.measured].images} images of the {plan.data.measured} split"
        why = f"{count} are also trained on, so no gain can be claimed"
        found, direct, others = (
            {k: dataclasses.replace(c, verdict="no verdict", reason=why) for k, c in each.items()} for each in (found, direct, others)
        )
        pairs = tuple(dataclasses.replace(c, verdict="no verdict", reason=why) for c in pairs)
        effects = tuple(dataclasses.replace(e, verdict="no verdict", reason=why) for e in effects)
    content: dict[str, object] = {"of": _identity(plan, study.runs), "resamples": resamples}
    for key, each in (("variants", found), ("controls", direct), ("others", others)):
        content[key] = {name: dataclasses.asdict(c) for name, c in each.items()}
    for key, some in (("pairs", pairs), ("effects", effects)):
        content[key] = [dataclasses.asdict(c) for c in some]
    if save:
        write_json(study.folder / COMPARISONS, content)
    return dataclasses.replace(study, comparisons=found, control_tests=direct, pairs=pairs, effects=effects, others=others)


def _pairs(analysis: Analysis, plan: StudyPlan) -> tuple[Comparison, ...]:
    """Compare the plan's pairs of arms, each with those before it, adjusted for the number of pairs."""
    arms = [v.name for v in plan.variants if (v.name in plan.pairs if plan.pairs != ("all",) else not v.control_of)]
    count = len(arms) * (len(arms) - 1) // 2
    return tuple(c for k, name in enumerate(arms[:-1]) for c in analysis.compare(name, arms[k + 1 :], tests=count)) if plan.pairs else ()


def _identity(plan: StudyPlan, runs: tuple[RunResult, ...]) -> str:
    """Digest of everything the comparisons depend on."""
    rows = [[r.variant, r.seed, r.state, r.made_with, r.last.ap if r.last else None] for r in runs]
    variants = [[v.name, v.control_of] for v in plan.variants]
    chosen = filter(None, (plan.factors, plan.pairs, [[p.name, p.digest] for p in plan.predictions], plan.stop_hopeless))
    return digest([rows, plan.baseline.name, plan.data.overlap, plan.data.group, str(plan.look), variants, *chosen])


def read_comparisons(path: Path, plan: StudyPlan, runs: tuple[RunResult, ...]) -> dict[str, Any]:
    """The saved comparisons, by attribute of `Study`; none if they are of other runs, or damaged."""
    from utils.compare.effects import Effect
    from utils.compare.statistics import Comparison

    content = read_json(path) or {}
    if content.get("of") != _identity(plan, runs):
        return {"comparisons": {}}
    try:
        variants, controls = (dict(typed(Mapping[str, Comparison], content.get(key), key)) for key in ("variants", "controls"))
        others = dict(typed(Mapping[str, Comparison], content.get("others", {}), "others"))
        pairs = typed(tuple[Comparison, ...], content.get("pairs", []), "pairs")
        effects = typed(tuple[Effect, ...], content.get("effects", []), "effects")
    except TypeError:
        return {"comparisons": {}}
    return {"comparisons": variants, "control_tests": controls, "pairs": pairs, "effects": effects, "others": others}
