"""Costs: all variants in turn in one process, ratios with intervals, and the estimate of a dry run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.utils.compare.forked import settings, write_models
from utils.compare import benchmark, benchmark_worker
from utils.compare.benchmark import measure_costs, ratio, run_seconds
from utils.compare.costs import COSTS, Ratio, read_costs
from utils.compare.plan import make_plan, reconcile_plan
from utils.compare.plan_io import write_plan
from utils.compare.study import StudyPlan
from utils.config import Hyp
from utils.signals import StopRequest


@pytest.fixture
def plan(tiny_dataset: Path, tmp_path: Path) -> StudyPlan:
    return reconcile_plan(make_plan(settings(write_models(tmp_path), tiny_dataset, tmp_path), Hyp(), "python compare.py", 1), None, "")


def test_calls_take_turns_in_an_order_that_rotates() -> None:
    called: list[str] = []
    calls = [lambda name=name: called.append(name) for name in "abc"]
    times = benchmark_worker.time_rounds(calls, torch.device("cpu"), 7, 60)
    assert [len(t) for t in times] == [7, 7, 7]
    assert "".join(called) == "abc" + "abcbcacababcbcacababc"  # a round of warm-up first


def test_a_ratio_is_a_median_over_rounds_with_order_statistics() -> None:
    # a machine that gets slower and slower, and a variant that always takes 1.25 times as long
    drift = [1 + 0.5 * k for k in range(9)]
    assert ratio([1.25 * t for t in drift], drift) == Ratio(1.25, 1.25, 1.25)
    # of 9 values in order the 2nd and the 8th: 1 - 2 (1 + 9) / 512 = 0.961
    assert ratio([5, 3, 9, 1, 7, 2, 8, 4, 6], [1] * 9) == Ratio(5, 2, 8)
    assert ratio([4, 1, 3, 2, 6, 5], [1] * 6) == Ratio(3.5, 1, 6)  # 1 - 2 / 64 = 0.969


def test_costs_of_all_variants_are_measured_together(plan: StudyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def run(lines: list[list[str]], _: StopRequest) -> list[dict[str, object]]:
        asked.append((lines[0][5], lines[0][6]))
        memory = {"memory_mb": 5.0, "train_memory_mb": 7.0, "device": "cpu", "threads": 1}
        rounds = {
            name: {k: [t] * 6 for k in benchmark._KEYS} for name, t in (("tiny", 2.0), (benchmark_worker.COPY, 2.1), ("tiny-se", 3.0))
        }
        return [{**memory, "times": rounds}]

    monkeypatch.setattr(benchmark, "_run_workers", run)
    measure_costs(tmp_path, plan, "cpu", StopRequest())
    costs = read_costs(tmp_path, ["tiny", "tiny-se"])
    assert costs["tiny-se"].ratios["latency_ms"] == Ratio(1.5, 1.5, 1.5)
    assert costs["tiny-se"].ratios["images_per_second"].value == pytest.approx(2 / 3)
    assert costs["tiny"].ratios["latency_ms"].value == pytest.approx(2 / 2.1)  # A/A
    assert costs["tiny-se"].train_seconds == 3 * 2 * 2  # 8 images in batches of 4, two epochs
    assert asked[0] == ("tiny", "times")
    count = len(asked)
    measure_costs(tmp_path, plan, "cpu", StopRequest())
    assert len(asked) == count  # all there
    content = json.loads((tmp_path / COSTS).read_text())
    content["tiny-se"]["latency_ms"] = "fast"
    (tmp_path / COSTS).write_text(json.dumps(content))
    measure_costs(tmp_path, plan, "cpu", StopRequest())
    assert len(asked) == 2 * count  # damaged: measured again


@pytest.mark.parametrize("part", ["times", "draft", "training"])
def test_what_a_measuring_process_prints(plan: StudyPlan, tmp_path: Path, capsys, monkeypatch, part) -> None:
    monkeypatch.setattr(benchmark_worker, "_TIME_LIMIT", 0.0)
    monkeypatch.setattr(benchmark_worker, "_DRAFT_TIME_LIMIT", 0.0)
    monkeypatch.setattr("utils.compare.run_worker.set_threads", lambda _: None)
    write_plan(tmp_path, plan)
    benchmark_worker.main([str(tmp_path), "tiny", part, "--device", "cpu"])
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    if part == "times":
        assert list(values["times"]) == ["tiny", benchmark_worker.COPY, "tiny-se"]
        assert {k: len(v) for k, v in values["times"]["tiny-se"].items()} == dict.fromkeys(benchmark._KEYS, 6)
    elif part == "draft":
        assert 0 < values["load_seconds"] < values["seconds"]
        assert values["step_seconds"] > 0
    else:
        assert values["train_memory_mb"] >= 0


def test_the_time_of_a_run(plan: StudyPlan) -> None:
    # 2 epochs of 2 steps at 2 s; 3 validations of 4 images at 0.4 x 2 s / 4; 2 x 4 images measured; a start of 10 s: 8 + 2.4 + 1.6 + 10
    assert run_seconds(plan, 2.0, 10.0) == pytest.approx(22.0)
    assert run_seconds(dataclasses.replace(plan, weights="w.pt"), 2.0, 10.0) == pytest.approx(22.8)  # before the first step, too
