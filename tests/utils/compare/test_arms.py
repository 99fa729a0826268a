"""Arms: models with weights, hyper-parameters and flags of their own, from a file or the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from tests.utils.compare.forked import ForkExecutor, settings, write_models
from utils.compare import load_study
from utils.compare import main as study_main
from utils.compare.arms import read_arms
from utils.compare.config import CompareConfig
from utils.compare.page.report_data import build_report_data
from utils.compare.plan import make_plan, reconcile_plan
from utils.compare.plan_io import read_plan, write_plan
from utils.config import Hyp, load_hyp
from utils.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arms")
    write_models(folder)
    arms = {
        "base": {"cfg": "tiny.yaml"},
        "siou": {"cfg": "tiny.yaml", "hyp": {"box_loss": "siou", "lr0": "1e-3"}},
        "soft": {"cfg": "tiny-se.yaml", "flags": {"nms": "soft-gaussian", "cos-lr": True, "freeze": [0, 1], "rect": False}},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump({"baseline": "base", "arms": arms}))
    return folder


def test_arms_of_a_file_and_of_the_command_line(folder):
    line = f"wiou: {folder}/tiny.yaml box_loss=wiou-v3 label-smoothing=0.1 cos_lr"
    arms, config = read_arms(CompareConfig(arms=str(folder / "study.yaml"), arm=(line,)))
    assert config.baseline == "base"
    assert [arm.name for arm in arms] == ["base", "siou", "soft", "wiou"]
    base, siou, soft, wiou = arms
    assert (base.cfg, base.own_settings) == (f"{folder}/tiny.yaml", {})
    assert siou.hyp == {"box_loss": "siou", "lr0": 0.001}
    assert soft.flags == {"nms": "soft-gaussian", "cos_lr": True, "freeze": (0, 1), "rect": False}
    assert (wiou.hyp, wiou.flags) == ({"box_loss": "wiou-v3"}, {"label_smoothing": 0.1, "cos_lr": True})


def test_a_plan_with_arms(folder, tiny_dataset, tmp_path):
    """It comes back from its file, names what each arm changes against the baseline, and refuses other settings of an arm."""
    config = settings((), tiny_dataset, tmp_path, arms=str(folder / "study.yaml"))
    arms, config = read_arms(config)
    plan = reconcile_plan(make_plan(config, Hyp(), "python compare.py", 1, arms), None, config.baseline)
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    siou, soft = plan.variant("siou"), plan.variant("soft")
    assert plan.other_settings(siou) == ("lr0 0.01 -> 0.001", "box_loss ciou -> siou")
    assert set(plan.other_settings(soft)) == {"freeze (0,) -> (0, 1)", "nms hard -> soft-gaussian", "cos_lr False -> True"}
    assert plan.of(siou).hyp == {**plan.hyp, "box_loss": "siou", "lr0": 0.001}
    changed = make_plan(config, Hyp(), "", 1, [*arms[:1], *read_arms(CompareConfig(arm=(f"siou: {folder}/tiny.yaml box_loss=eiou",)))[0]])
    with pytest.raises(UserError, match=r"siou: box_loss: siou before, eiou now\n  siou: lr0: 0\.001 before, none now"):
        reconcile_plan(changed, plan, "")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a: tiny.yaml box_los=siou",), "--arm 'a: tiny.yaml box_los=siou': unknown 'box_los'; did you mean 'box_loss'?"),
        (("a: tiny.yaml project=/x",), "unknown 'project'"),
        (("a: tiny.yaml classes=1",), "unknown 'classes'"),
        (("a: tiny.yaml momentum=3",), "momentum: 3.0 is outside 0 to 0.9999"),
        (("a: tiny.yaml optimizer=Adm",), "invalid choice: 'Adm'"),
        (("a tiny.yaml",), "expected 'NAME: MODEL.yaml'"),
        (("a: tiny.yaml weights=none.pt",), "none.pt"),
        (("../a: -",), "invalid variant name '..?a'"),
        (("x" * 300 + ": tiny.yaml",), "has more than 200 bytes"),
    ],
)  # fmt: skip
def test_an_arm_that_makes_no_sense(lines, message):
    with pytest.raises(UserError) as error:
        read_arms(CompareConfig(arm=lines))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "needs 'arms:'"),
        ({"arms": {"a": {"cfg": "x.yaml"}}, "baselin": "a"}, "unknown 'baselin'; did you mean 'baseline'?"),
        ({"arms": {"a": {"cfg": "x.yaml"}}, "baseline": "b"}, "baseline: no arm 'b'"),
        ({"arms": {"a": "x.yaml"}}, "arm a: needs a model"),
        ({"arms": {"a": {"cfg": "x.yaml", "hyp": {"box_los": "siou"}}}}, "arm a: hyp: unknown 'box_los'; did you mean 'box_loss'?"),
        ({"arms": {"a": {"cfg": "x.yaml", "hyp": ["box_loss"]}}}, "'name: value' pairs"),
        ({"arms": {"a": {"cfg": "x.yaml", "flags": {"name": "../x"}}}}, "arm a: flags: unknown 'name'"),
    ],
)  # fmt: skip
def test_a_file_of_arms_that_makes_no_sense(content, message, tmp_path):
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as error:
        read_arms(CompareConfig(arms=str(tmp_path / "arms.yaml")))
    assert str(error.value).startswith(str(tmp_path / "arms.yaml"))
    assert message in str(error.value)


def test_equal_arms_and_losses_that_do_not_exist(folder, tiny_dataset, tmp_path):
    config = settings((str(folder / "tiny.yaml"),), tiny_dataset, tmp_path, arm=(f"same: {folder}/tiny.yaml",))
    with pytest.raises(UserError, match="tiny and same are the same model with the same settings"):
        make_plan(config, Hyp(), "", 1, read_arms(config)[0])
    config = settings((str(folder / "tiny.yaml"),), tiny_dataset, tmp_path, arm=(f"sou: {folder}/tiny.yaml box_loss=sou",))
    plan = make_plan(config, Hyp(), "", 1, read_arms(config)[0])
    assert "unknown box loss 'sou'; did you mean 'siou'?" in plan.variant("sou").error


def test_a_study_trains_each_arm_with_its_settings(folder, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(study_main, "LocalExecutor", ForkExecutor)
    monkeypatch.setattr(study_main, "measure_costs", lambda *_: None)
    monkeypatch.setattr(study_main, "write_report", lambda _: None)
    arm = f"siou: {folder}/tiny.yaml box_loss=siou nms=soft-linear"
    config = settings((str(folder / "tiny.yaml"),), tiny_dataset, tmp_path, arm=(arm,), epochs=1, seeds=(1,))
    study_main.run_study(config, load_hyp(config.hyp), frozenset({"workers"}), "python compare.py ...")
    study = load_study(tmp_path / "study")
    assert [run.state for run in study.runs] == ["done", "done"]
    plain, siou = (torch.load(run.folder / "weights" / "last.pt", weights_only=True) for run in study.runs)
    assert (plain["hyp"]["box_loss"], siou["hyp"]["box_loss"]) == ("ciou", "siou")
    assert (plain["config"]["nms"], siou["config"]["nms"]) == ("hard", "soft-linear")
    assert study.runs[0].made_with == study.runs[1].made_with  # so there is a verdict
    assert {v["name"]: v["edits"] for v in build_report_data(study)["variants"]}["siou"] == [
        "nms hard -> soft-linear",
        "box_loss ciou -> siou",
    ]
