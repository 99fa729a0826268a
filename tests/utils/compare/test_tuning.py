"""Tuning the arms of a study: equal budgets, killed and continued; real trials in forks."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.utils.compare.forked import ForkExecutor, settings, study_of, write_models
from tests.utils.compare.studies import make_study
from utils.compare import main as study_main
from utils.compare import tuning
from utils.compare.executors import Task
from utils.compare.load import load_study
from utils.compare.page.tuning import markdown_part, section
from utils.compare.plan_io import read_plan, write_plan
from utils.compare.run_result import RESULT
from utils.compare.study import RunResult, StudyPlan
from utils.compare.tuning import SEED, tune_arms, tuning_plan
from utils.compare.tuning_plan import Tuned, TuningPlan
from utils.errors import UserError
from utils.training.search_space import SearchConfig

SPACE = ("lr0=0.001:0.1", "momentum=0.8:0.98")


class Trials:
    """Stand-ins for the trials of a study: an arm's AP is best at lr0 = 0.05; `limit` trials are carried out before a kill."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int = 1000) -> None:
        self.limit, self.done = limit, list[Task]()
        monkeypatch.setattr(tuning, "read_run_result", self._read)

    def __call__(self, tasks: Sequence[Task], done: int) -> dict[Task, str]:
        for task in tasks:
            if len(self.done) == self.limit:
                raise KeyboardInterrupt
            self.done.append(task)
            plan = read_plan(task.study)
            variant = plan.variant(task.variant)
            assert (plan.data.measured, plan.seeds, task.seed) == ("val", (SEED,), SEED)
            task.folder.mkdir(parents=True)
            lr0 = plan.of(variant).hyp["lr0"]
            assert isinstance(lr0, float)
            (task.folder / RESULT).write_text(json.dumps(math.nan if lr0 > 0.08 else 0.5 - abs(lr0 - 0.05)))
        return {}

    @staticmethod
    def _read(study: Path, variant: str, seed: int) -> RunResult:
        task = Task(study, variant, seed)
        if not (task.folder / RESULT).exists():
            return RunResult(variant=variant, seed=seed, state="missing", folder=task.folder)
        ap = json.loads((task.folder / RESULT).read_text())
        scores: Any = None if math.isnan(ap) else types.SimpleNamespace(ap=ap)
        state = "failed" if math.isnan(ap) else "done"
        return RunResult(variant=variant, seed=seed, state=state, folder=task.folder, last=scores)


def begun(folder: Path, search: str = "random", trials: int = 6) -> StudyPlan:
    """The plan of a made-up study that is to be tuned, with two arms."""
    plan = make_study(folder.with_name(f"{folder.name}-made"), hostile=False, seeds=1).plan
    hyp = {"lr0": 0.01, "momentum": 0.937}
    plan = dataclasses.replace(plan, variants=plan.variants[:2], hyp=hyp, tuning=TuningPlan(trials=trials, search=search, space=SPACE))
    folder.mkdir(parents=True, exist_ok=True)
    write_plan(folder, plan)
    return plan


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_every_arm_has_the_same_trials_killed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: str) -> None:
    if search == "optuna":
        pytest.importorskip("optuna")
    plan = begun(tmp_path / "straight", search)
    straight = tune_arms(tmp_path / "straight", plan, Trials(monkeypatch))
    plan = begun(tmp_path / "killed", search)
    with pytest.raises(KeyboardInterrupt):
        tune_arms(tmp_path / "killed", plan, Trials(monkeypatch, limit=5))
    rest = Trials(monkeypatch)
    killed = tune_arms(tmp_path / "killed", plan, rest)
    assert len(rest.done) == 2 * 6 - 5
    assert killed.variants == straight.variants
    for arm in killed.variants:
        assert arm.tuned
        assert len(arm.tuned.scores) == 6
        assert arm.tuned.before == pytest.approx(0.46)  # its own lr0 of 0.01
        assert arm.tuned.after == max(s for s in arm.tuned.scores if s is not None) >= arm.tuned.before
        assert killed.of(arm).hyp == {**plan.hyp, **arm.tuned.values}
    assert [v.tuned for v in read_plan(tmp_path / "killed").variants] == [v.tuned for v in killed.variants]
    if search == "random":
        assert killed.variants[0].tuned == killed.variants[1].tuned  # the same candidates
    again = Trials(monkeypatch)
    assert tune_arms(tmp_path / "killed", killed, again) == killed
    assert not again.done


def test_where_every_trial_fails_an_arm_keeps_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dataclasses.replace(begun(tmp_path), tuning=TuningPlan(trials=3, search="random", space=("lr0=0.09:0.1",)), hyp={"lr0": 0.1})
    for arm in tune_arms(tmp_path, plan, Trials(monkeypatch)).variants:
        assert arm.tuned
        assert (arm.tuned.values, arm.tuned.trial) == ({}, 0)
        assert arm.tuned.scores == (None, None, None)


def test_a_forged_study_names_no_program_and_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = begun(tmp_path / "study")
    folder = tmp_path / "study" / "tuning" / plan.baseline.name
    folder.mkdir(parents=True)
    write_plan(folder, dataclasses.replace(plan, plugins={"evil.py": "0"}, variants=plan.variants[:1]))
    tune_arms(tmp_path / "study", plan, Trials(monkeypatch))
    assert read_plan(folder).plugins == plan.plugins
    plan = begun(tmp_path / "linked")
    (tmp_path / "outside").mkdir()
    (tmp_path / "linked" / "tuning").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"is a link to .*outside"):
        tune_arms(tmp_path / "linked", plan, Trials(monkeypatch))
    assert not [*(tmp_path / "outside").iterdir()]


def test_the_report_shows_how_far_tuning_moved_each_arm(tmp_path: Path) -> None:
    plan = begun(tmp_path)
    assert (markdown_part(plan), section(plan)) == ("", "")
    tuned = Tuned(values={"lr0": 0.05}, trial=2, scores=(0.3, None, 0.325))
    plan = dataclasses.replace(plan, variants=(dataclasses.replace(plan.variants[0], tuned=tuned), plan.variants[1]))
    assert "| yolov5n | 3 | 1 | 30.0 | 32.5 | +2.5 | 2 | lr0 0.05 |" in markdown_part(plan).replace("0 |", "0 |").replace(
        ".00", ".0"
    ).replace("2.50", "2.5")
    assert "random: lr0=0.001:0.1 momentum=0.8:0.98" in section(plan)


def test_what_tuning_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuning_plan(SearchConfig()) is None
    assert tuning_plan(SearchConfig(tune=3, space=("momentum",))) == TuningPlan(trials=3, search="random", space=("momentum=0.6:0.98",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="optuna is not installed"):
        tuning_plan(SearchConfig(tune=3, search="optuna"))


@pytest.mark.slow
def test_a_tuned_study_killed_within_its_trials(tmp_path: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfgs = write_models(tmp_path)
    monkeypatch.setattr(study_main, "LocalExecutor", ForkExecutor)
    monkeypatch.setattr(study_main, "measure_costs", lambda *_: None)
    config = settings(cfgs, tiny_dataset, tmp_path / "straight", tune=3, epochs=1)
    study_of(config)
    monkeypatch.setattr(ForkExecutor, "kills", (0.6, 1.2, 9, 0.4))
    study_of(dataclasses.replace(config, project=str(tmp_path / "killed")))
    straight, killed = (load_study(tmp_path / name / "study") for name in ("straight", "killed"))
    assert (killed.folder / "results.csv").read_bytes() == (straight.folder / "results.csv").read_bytes()
    assert [v.tuned for v in killed.variants] == [v.tuned for v in straight.variants]
    assert all(v.tuned and len(v.tuned.scores) == 3 for v in killed.variants)
    assert '<h2 id="tuning-title">Tuning</h2>' in (killed.folder / "report.html").read_text()
    with pytest.raises(UserError, match=r"--tune: 3 trials, random.* before, none now"):
        study_of(dataclasses.replace(config, tune=0))
