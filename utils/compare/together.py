"""Several studies of one protocol, read as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from utils.compare.plan import differences
from utils.compare.run_result import read_run_result
from utils.compare.study import Study
from utils.compare.verdicts import compare
from utils.errors import UserError


def together(studies: Sequence[Study]) -> Study:
    """One study with the arms of all; of an arm that several have, the finished runs of any. Nothing is written.

    The costs are those of the first study: times that were measured at different times are not compared.

    Raises:
        UserError: no study, or studies of other data, settings or models of one name.
    """
    if not studies:
        raise UserError("no study is named; give the folders of one or more")
    first, *others = studies
    variants = {v.name: v for v in first.variants}
    for study in others:
        if lines := differences(first.plan, study.plan, study.plan.baseline.name):
            shown = "".join(f"\n  {line}" for line in lines)
            raise UserError(f"{first.folder} and {study.folder} have other protocols, so they cannot be read together:{shown}")
        variants |= {v.name: dataclasses.replace(v, baseline=False) for v in study.variants if v.name not in variants}
    seeds = tuple(sorted({seed for study in studies for seed in study.plan.seeds}))
    arms = sorted(variants.values(), key=lambda v: bool(v.control_of))
    plan = dataclasses.replace(first.plan, variants=tuple(arms), seeds=seeds)
    ordered = sorted((r for study in reversed(studies) for r in study.runs), key=lambda r: r.state == "done")
    found = {(r.variant, r.seed): r for r in ordered}  # the last one wins: done, and of the first study
    runs = tuple(found.get((v.name, s)) or read_run_result(first.folder, v.name, s) for v in arms for s in seeds)
    study = Study(folder=first.folder, plan=plan, runs=runs, costs=first.costs, comparisons={})
    return compare(study, resamples=1000, save=False)
