"""Arms that end early (``--stop-hopeless``): one of whose runs has failed, or that are certainly worse by more than what is of interest.

Which arms end, and when, is a function of the plan and of the finished runs in the order of the seeds. So it is the same whatever was
killed, and whatever ran at the same time: runs of an arm that were finished beyond its end do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from utils.compare.run_result import read_run_result
from utils.compare.study import RunResult, StudyPlan

LEVEL = 0.01
"""The chance, over all looks of a study, that an arm ends although it is not worse than the baseline by more than the limit."""
ARM_ENDED = 3
"""Exit status of the process of a run whose arm has ended."""

_Results = Mapping[tuple[str, int], RunResult]


def read_runs(folder: Path, plan: StudyPlan) -> tuple[RunResult, ...]:
    """The runs of a study, by variant and seed; those beyond the end of their arm have the state "stopped"."""
    runs = tuple(read_run_result(folder, v.name, seed) for v in plan.variants for seed in plan.seeds)
    if not plan.stop_hopeless:
        return runs
    results = {(run.variant, run.seed): run for run in runs}
    ends = _hopeless(plan, results, _failed(plan, results))
    for name, (count, why) in ends.items():
        error = f"stopped after {count} of {len(plan.seeds)} {'runs' if plan.data.folds else 'seeds'}: {why}"
        for seed in plan.seeds[count:]:
            run = results[name, seed]
            results[name, seed] = RunResult(variant=name, seed=seed, state="stopped", folder=run.folder, error=error)
    return tuple(results.values())


def why_stopped(folder: Path, plan: StudyPlan, variant: str, seed: int) -> str:
    """Why a run is not to be carried out; "" if it is."""
    runs = read_runs(folder, plan) if plan.stop_hopeless else ()
    return next((run.error for run in runs if (run.variant, run.seed, run.state) == (variant, seed, "stopped")), "")


def _failed(plan: StudyPlan, results: _Results) -> dict[str, tuple[int, str]]:
    """By arm, its first failed run, counted from 1, and a word about it; where all runs before it are done."""
    out = {}
    for name in (v.name for v in plan.variants if not v.baseline and not v.error):
        first = next((k for k, seed in enumerate(plan.seeds) if results[name, seed].state != "done"), None)
        if first is not None and (run := results[name, plan.seeds[first]]).state == "failed":
            out[name] = first + 1, f"seed {run.seed} failed"
    return out


def _hopeless(plan: StudyPlan, results: _Results, ends: Mapping[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    """Look at the arms after two seeds and after each further one, when all arms that are left have finished it.

    An arm ends where the one-sided confidence limit of its mean difference from the baseline, of which `LEVEL` is divided by the number of
    looks (Bonferroni), is below minus the limit; the variance over the seeds is that of all arms, see `utils.compare.spread`. The images
    are those that the study measures, so their variance does not count. Controls and cells of a factorial design go on: others are
    compared with them.

    Args:
        ends: by arm, after how many seeds it ends, and why; arms that are hopeless before are added.
    """
    import numpy as np
    from scipy import stats

    from utils.compare.factors import cells
    from utils.compare.intervals import independent_runs
    from utils.compare.spread import seed_variance

    out, folds, base = dict(ends), plan.data.folds, plan.baseline.name
    kept = {base, *(v.name for v in plan.variants if v.control_of), *(cells(plan.factors, base).values() if plan.factors else ())}
    looks = max(plan.planned, len(plan.seeds)) - 2
    for count in range(2, len(plan.seeds)):
        others = [v.name for v in plan.variants if not v.baseline and not v.error and (v.name not in out or out[v.name][0] > count)]
        runs = [[results[name, seed] for seed in plan.seeds[:count]] for name in (base, *others)]
        if not others or any(run.state != "done" for row in runs for run in row):
            break
        values = np.array([[run.last.ap if run.last else np.nan for run in row] for row in runs])
        spread, number = seed_variance(values), independent_runs(count, 1 / (folds - 1) if folds else 0)
        error, mean = np.sqrt(spread.variance / number), (values[1:] - values[0]).mean(1)
        high = mean + stats.t.isf(LEVEL / looks, spread.df) * error
        for name, difference, limit, known in zip(others, mean, high, error > 0, strict=True):
            if known and 100 * limit < -plan.stop_hopeless and name not in kept:
                certain = f"more than {plan.stop_hopeless:g} with a confidence of {100 * (1 - LEVEL):g} %"
                out[name] = count, f"{-100 * difference:.2f} points of AP below {base}, and by {certain}"
    return out
