"""Several studies read as one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.utils.compare.studies import drawn_runs, make_study
from tests.utils.compare.synthetic import draw_scenes
from utils.compare.study import Study, Variant
from utils.compare.together import together
from utils.errors import UserError


def study_of(folder, skills: dict[str, float], seeds=(0, 1)) -> Study:
    """A study of detectors with these skills, the baseline first; skill 0 is a run that is missing."""
    scenes, made = draw_scenes(np.random.default_rng(0), 12), make_study(folder / "made", hostile=False, seeds=1, names=("x", "y"))
    runs = drawn_runs(folder, made.runs[0], scenes, skills, seeds, "missing")
    variants = tuple(Variant(name=name, cfg=f"{name}.yaml", baseline=not k, digest=name) for k, name in enumerate(skills))
    plan = dataclasses.replace(made.plan, variants=variants, seeds=seeds, planned=len(seeds), control=())
    return Study(folder=folder, plan=plan, runs=tuple(runs), costs={}, comparisons={})


def test_arms_of_two_studies_are_compared(tmp_path):
    first = study_of(tmp_path / "one", {"base": 1.2, "a": 0.0})
    second = study_of(tmp_path / "two", {"base": 1.2, "a": 1.5, "b": 2.5})
    both = together([first, second])
    assert [(v.name, v.baseline) for v in both.variants] == [("base", True), ("a", False), ("b", False)]
    assert {r.state for r in both.runs} == {"done"}
    assert both.run("base", 0).folder == first.run("base", 0).folder  # of runs that both have finished, the first's
    assert both.comparisons["b"].difference == pytest.approx(
        np.mean([both.run("b", s).last.ap - both.run("base", s).last.ap for s in (0, 1)])
    )
    assert both.comparisons["b"].verdict == "better"
    assert not (first.folder / "comparisons.json").exists()


def test_studies_that_do_not_fit_together(tmp_path):
    first = study_of(tmp_path / "one", {"base": 1.2, "a": 1.0})
    other = dataclasses.replace(first.plan, flags={**first.plan.flags, "epochs": 7})
    with pytest.raises(UserError, match="have other protocols, so they cannot be read together:\n  --epochs: 30 before, 7 now"):
        together([first, dataclasses.replace(first, plan=other)])
    changed = tuple(dataclasses.replace(v, digest="other") for v in first.variants)
    with pytest.raises(UserError, match="a: another model"):
        together([first, dataclasses.replace(first, plan=dataclasses.replace(first.plan, variants=changed))])
    with pytest.raises(UserError, match="no study is named"):
        together([])
