"""Arms that end early: when they do, that nothing but finished runs decides it, and what the study says of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.utils.compare.forked import FAILING_BLOCKS, ForkExecutor, settings, study_of, write_models, write_variant
from tests.utils.compare.studies import drawn_runs, make_study
from tests.utils.compare.synthetic import draw_scenes
from utils.compare import load_study, run_worker, stopping
from utils.compare import main as study_main
from utils.compare.config import CompareConfig
from utils.compare.executors import Exit, Task
from utils.compare.page.report_data import build_report_data
from utils.compare.page.sentences import notes
from utils.compare.plan_io import read_plan, write_plan
from utils.compare.progress import Progress
from utils.compare.resampled_ap import Scores
from utils.compare.scheduler import Scheduler
from utils.compare.stopping import ARM_ENDED, LEVEL, read_runs
from utils.compare.study import RunResult, StudyPlan
from utils.compare.verdicts import compare
from utils.errors import UserError
from utils.signals import StopRequest

HERE = Path("study")


class Results:
    """Finished runs in the place of those of a folder: by variant the AP of each seed in points; NaN failed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, points: dict[str, list[float]]) -> None:
        self._points, self.finished = points, set(itertools.product(points, range(99)))
        monkeypatch.setattr(stopping, "read_run_result", self._read)

    def _read(self, folder: Path, variant: str, seed: int) -> RunResult:
        ap = self._points[variant][seed] / 100
        state = "missing" if (variant, seed) not in self.finished else "failed" if math.isnan(ap) else "done"
        last = Scores(*[ap] * 6, per_class=np.array([ap])) if state == "done" else None
        return RunResult(
            variant=variant, seed=seed, state=state, folder=folder, error="it diverged" if state == "failed" else "", last=last
        )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    """Five seeds of yolov5n, yolov5n-ca, yolov5n-cot and a control of -ca."""
    plan = make_study(tmp_path_factory.mktemp("made"), hostile=False, seeds=5).plan
    names = ("yolov5n", "yolov5n-ca", "yolov5n-cot", "yolov5n-ca-control")
    return dataclasses.replace(plan, variants=tuple(v for v in plan.variants if v.name in names), stop_hopeless=1.0)


LEVELS = {
    "yolov5n": [40.0, 41.0, 39.5, 40.2, 40.4],
    "yolov5n-ca": [40.5, 41.1, 39.9, 40.0, 40.9],
    "yolov5n-cot": [20.2, 20.9, 19.8, 20.0, 20.3],
    "yolov5n-ca-control": [10.0, 11.1, 9.2, 10.4, 10.0],
}


def summary(runs: tuple[RunResult, ...]) -> list[tuple[object, ...]]:
    return [(r.variant, r.seed, r.state, r.error, r.last and r.last.ap) for r in runs]


def states(runs: tuple[RunResult, ...]) -> dict[str, str]:
    """By variant the first letters of its runs' states, seed by seed."""
    return {name: "".join(r.state[0] for r in group) for name, group in itertools.groupby(runs, key=lambda r: r.variant)}


def test_hopeless_and_failed_arms_end_and_controls_go_on(plan: StudyPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    Results(monkeypatch, LEVELS | {"yolov5n-ca": [40.5, 41.1, math.nan, 40.0, math.nan]})
    runs = read_runs(HERE, plan)
    assert states(runs) == {"yolov5n": "ddddd", "yolov5n-ca": "ddfss", "yolov5n-cot": "ddsss", "yolov5n-ca-control": "ddddd"}
    said = {run.variant: run.error for run in runs if run.state == "stopped"}
    assert said["yolov5n-ca"] == "stopped after 3 of 5 seeds: seed 2 failed"
    low = "19.95 points of AP below yolov5n, and by more than 1 with a confidence of 99 %"
    assert said["yolov5n-cot"] == f"stopped after 2 of 5 seeds: {low}"
    cells = dataclasses.replace(plan, factors=("yolov5n-ca", "yolov5n-cot"))
    monkeypatch.setattr("utils.compare.factors.cells", lambda factors, base: dict(enumerate((base, *factors))))
    assert "s" not in states(read_runs(HERE, cells))["yolov5n-cot"]
    assert "s" not in "".join(states(read_runs(HERE, dataclasses.replace(plan, stop_hopeless=0.0))).values())


def test_the_limit_is_the_confidence_limit_by_the_variance_of_all_arms(plan: StudyPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked out by hand for three arms and two of four seeds: the residual variance of the two-way layout, and t of two looks."""
    points = {"yolov5n": [40.0, 41.0, 39.0, 40], "yolov5n-ca": [40.4, 40.8, 40.0, 40], "yolov5n-cot": [30.0, 31.6, 40.0, 40]}
    Results(monkeypatch, points)
    two = np.array([row[:2] for row in points.values()])
    residual = two - two.mean(0) - two.mean(1, keepdims=True) + two.mean()
    variance = (residual**2).sum() / 2
    plan = dataclasses.replace(plan, variants=plan.variants[:3], seeds=(0, 1, 2, 3), planned=4)
    for folds, sharing in ((0, 0.0), (4, 1 / 3)):  # folds share images, so two runs tell less
        limit = (two[2] - two[0]).mean() + stats.t.isf(LEVEL / 2, 2) * math.sqrt(2 * variance * (1 / 2 + sharing))
        assert -9 < limit < -1
        for margin, ended in ((-limit - 1e-9, True), (-limit + 1e-9, False)):
            one = dataclasses.replace(plan, data=dataclasses.replace(plan.data, folds=folds), stop_hopeless=margin)
            assert (states(read_runs(HERE, one))["yolov5n-cot"] == "ddss") == ended


@pytest.mark.parametrize("jobs", [1, 3, 20])
def test_whatever_runs_at_the_same_time_the_same_runs_count(plan: StudyPlan, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    results = Results(monkeypatch, LEVELS | {"yolov5n-ca-control": [10.0, math.nan, 9.2, 10.4, 10.0]})
    whole = summary(read_runs(HERE, plan))
    tasks = [(v.name, seed) for seed in plan.seeds for v in plan.variants]
    results.finished, running, begun = set(), list[tuple[str, int]](), 0
    random = np.random.default_rng(jobs)
    while tasks or running:
        while tasks and len(running) < jobs:
            task = tasks.pop(0)
            if not stopping.why_stopped(HERE, plan, *task):
                begun += 1
                running.append(task)
        if running:
            results.finished.add(running.pop(int(random.integers(len(running)))))
    assert summary(read_runs(HERE, plan)) == whole
    assert begun <= 20 - {1: 6, 3: 4, 20: 0}[jobs]


@pytest.mark.parametrize("studies", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_an_arm_that_is_not_worse_by_more_than_the_limit_seldom_ends(plan, monkeypatch, studies):
    plan = dataclasses.replace(plan, stop_hopeless=2.0)
    random, ended = np.random.default_rng(0), []
    for _ in range(studies):
        common = random.normal(0, 1, 5)
        drawn = {v.name: list(40 - 2 * (number > 0) + common + random.normal(0, 0.5, 5)) for number, v in enumerate(plan.variants)}
        Results(monkeypatch, drawn)
        found = states(read_runs(HERE, plan))
        ended += ["s" in found[name] for name in ("yolov5n-ca", "yolov5n-cot")]
    assert np.mean(ended) <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / studies)


def test_an_arm_that_ended_has_no_verdict_and_changes_no_other(tmp_path: Path) -> None:
    study = make_study(tmp_path / "made", hostile=False, names=("a", "b"))
    names = ("yolov5n", "yolov5n-ca", "yolov5n-bot")
    arms = tuple(v for v in study.variants if v.name in names)
    skills = dict(zip(names, (1.0, 1.6, 0.2), strict=True))
    runs = drawn_runs(tmp_path, study.runs[0], draw_scenes(np.random.default_rng(0), 12), skills, range(4), "done")
    plan = dataclasses.replace(study.plan, variants=arms, seeds=(0, 1, 2, 3), planned=4, stop_hopeless=0.5)
    ended = [dataclasses.replace(r, state="stopped", last=None, best=None, error="stopped after 2 of 4 seeds: low") for r in runs[10:]]
    study = dataclasses.replace(study, plan=plan, runs=(*runs[:10], *ended))
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path).stop_hopeless == 0.5
    found = compare(study, 100)
    assert (found.comparisons["yolov5n-bot"].verdict, found.comparisons["yolov5n-bot"].reason) == ("no verdict", ended[0].error)
    assert found.comparisons["yolov5n-bot"].seeds == (0, 1)
    missing = [dataclasses.replace(r, state="missing", error="") for r in ended]
    alone = compare(dataclasses.replace(study, runs=(*runs[:10], *missing)), 100)
    one, other = (s.comparisons["yolov5n-ca"] for s in (found, alone))
    assert (one.interval, one.verdict, one.reason) == (other.interval, other.verdict, other.reason)
    assert "yolov5n-bot, seeds 2, 3: stopped after 2 of 4 seeds: low" in notes(build_report_data(found), found.runs, 0)


def test_a_process_whose_arm_has_ended_does_nothing(plan: StudyPlan, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(run_worker, "why_stopped", lambda *_: "stopped after 1 of 3 seeds: seed 0 failed")
    monkeypatch.setattr(run_worker, "set_threads", lambda _: None)
    monkeypatch.setattr(run_worker, "read_plan", lambda _: plan)
    with pytest.raises(SystemExit) as ended:
        run_worker.main(["study", "yolov5n-ca", "2"])
    assert ended.value.code == ARM_ENDED
    assert capsys.readouterr().out.strip() == "stopped after 1 of 3 seeds: seed 0 failed"


def test_the_scheduler_goes_on_without_it(tmp_path: Path, caplog: Any) -> None:
    class Engine:
        slots = 1

        def start(self, task: Task) -> None:
            self.task = task

        def wait(self, _: float) -> list[Exit]:
            self.task.log.parent.mkdir(exist_ok=True)
            self.task.log.write_text("some line\nstopped after 1 of 3 seeds: seed 0 failed\n")
            return [Exit(self.task, ARM_ENDED)]

        def stop(self) -> None: ...

    scheduler = Scheduler(Engine(), [Task(tmp_path, "yolov5n-ca", seed) for seed in (1, 2)], Progress(3, 1, 1))
    with caplog.at_level("INFO", "attune"):
        scheduler.run(StopRequest())
    assert not scheduler.unfinished
    assert "yolov5n-ca, seed 2: stopped after 1 of 3 seeds: seed 0 failed (3 of 3" in caplog.text


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_limits_that_make_no_sense(value: float) -> None:
    with pytest.raises(UserError, match=r"--stop-hopeless .*: must be > 0"):
        CompareConfig(stop_hopeless=value)


@pytest.mark.slow
def test_a_study_with_an_arm_that_diverges_killed_or_not(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_main, "LocalExecutor", ForkExecutor)
    monkeypatch.setattr(study_main, "measure_costs", lambda *_: None)
    monkeypatch.setattr("utils.training.nonfinite.MAX_RESTORES", 0)
    cfgs = write_models(tmp_path)
    cfgs.append(write_variant(tmp_path, "boom", cfgs[0], "Boom"))
    more: dict[str, Any] = {"seeds": (3,), "epochs": 1, "batch_size": 1, "plugins": (FAILING_BLOCKS,)}
    config = settings(cfgs, tiny_dataset, tmp_path / "one", jobs=1, stop_hopeless=1.0, **more)
    study_of(config)
    study = load_study(tmp_path / "one" / "study")
    assert states(study.runs) == {"tiny": "ddd", "tiny-se": "ddd", "boom": "fss"}
    assert study.comparisons["boom"].reason == "stopped after 1 of 3 seeds: seed 0 failed"
    assert not (study.folder / "runs" / "boom" / "seed1" / "results.csv").exists()
    assert "stopped after 1 of 3 seeds" in (study.folder / "report.html").read_text(encoding="utf-8")
    monkeypatch.setattr(study_main, "write_report", lambda _: None)
    monkeypatch.setattr(ForkExecutor, "kills", (0.6, 9, 0.4, 0.9))
    study_of(dataclasses.replace(config, project=str(tmp_path / "many"), jobs=4))
    assert (tmp_path / "many" / "study" / "results.csv").read_bytes() == (study.folder / "results.csv").read_bytes()
    study_of(dataclasses.replace(config, stop_hopeless=0.0))  # and without it the arm goes on
    assert states(load_study(study.folder).runs)["boom"] == "fff"
