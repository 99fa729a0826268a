"""Warnings about the protocol of a study, on made-up runs with known starts and curves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.utils.compare.studies import make_study
from utils.compare.guards import plan_warnings, start_of, warnings
from utils.compare.study import StartingPoint, Study

START = StartingPoint(tensors=343, of=349, share=0.99, ap=0.287, own_classes=True)


def with_starts(study: Study, **starts: StartingPoint) -> Study:
    """The study, its runs begun at START or at that of their variant."""
    runs = tuple(dataclasses.replace(run, start=starts.get(run.variant.rpartition("-")[2], START)) for run in study.runs)
    return dataclasses.replace(study, runs=runs)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path, hostile=False)


def test_an_arm_that_starts_below_the_baseline_or_loses_weights_is_named(study: Study) -> None:
    ca, cot = dataclasses.replace(START, ap=0.01), dataclasses.replace(START, tensors=319, share=0.88, ap=0.16)
    found = warnings(with_starts(study, ca=ca, cot=cot))
    assert "yolov5n-ca starts far below yolov5n: AP 1.0 instead of 28.7 points before the first step." in found
    assert "yolov5n-cot loses 24 of the 343 pretrained tensors that yolov5n keeps; --control reset shows what that costs." in found
    assert not [line for line in found if "bot" in line or "yolov5n-cot starts" in line]
    assert not [line for line in warnings(study) if "starts" in line]  # from scratch


def test_an_arm_that_still_learns_is_named_with_its_slope(study: Study) -> None:
    def curve(slope: float) -> tuple[dict[str, float], ...]:
        return tuple({"epoch": float(e), "metrics/mAP_0.5:0.95": 0.1 + slope * e} for e in range(30))

    runs = tuple(dataclasses.replace(run, curve=curve(0.004 * (run.variant == "yolov5n-bot"))) for run in study.runs)
    found = [line for line in warnings(dataclasses.replace(study, runs=runs)) if "rises" in line]
    assert found == ["AP still rises at the end of the training: yolov5n-bot by 0.40 points an epoch. More epochs may change the order."]


def test_val_in_the_place_of_test_is_named(study: Study) -> None:
    said = "There is no test split: the best epoch is selected on the images on which figures are reported."
    assert said in plan_warnings(study.plan)
    data = dataclasses.replace(study.plan.data, measured="test")
    assert said not in plan_warnings(dataclasses.replace(study.plan, data=data))


def test_changes_to_pretrained_weights_without_a_gate_are_named(study: Study) -> None:
    def spec(gate: str) -> dict[str, object]:
        rows = [[-1, 1, "Conv", [8]], [-1, 1, "SE", []], [-1, 1, "C3CoT", [8]], [-1, 1, "Detect", ["nc", "anchors"]]]
        return {"backbone": rows[:-1], "head": rows[-1:], "identities": ["0", "0+SE", "1=C3CoT", "2"], "gates": ["", gate, gate, ""]}

    def said(gate: str) -> list[str]:
        variants = tuple(dataclasses.replace(v, spec=spec(gate) if v.name == "yolov5n-ca" else {}) for v in study.variants)
        return [line for line in plan_warnings(dataclasses.replace(study.plan, variants=variants)) if "gate" in line]

    assert said("zero") == []
    (line,) = said("")
    assert "(yolov5n-ca: SE in row 1, C3CoT in row 2)" in line


def test_a_learning_rate_of_one_arm_is_named(study: Study) -> None:
    variants = tuple(dataclasses.replace(v, hyp={"lr0": 0.02} if v.name == "yolov5n-ca" else {}) for v in study.variants)
    assert [line for line in plan_warnings(dataclasses.replace(study.plan, variants=variants)) if line.startswith("yolov5n-ca has")]


def test_the_start_is_a_mean_over_the_seeds(study: Study) -> None:
    runs = [dataclasses.replace(r, start=dataclasses.replace(START, ap=0.1 * (r.seed + 1))) for r in study.runs]
    start = start_of(dataclasses.replace(study, runs=tuple(runs)), "yolov5n")
    assert start is not None
    assert start.ap == pytest.approx(0.2)
