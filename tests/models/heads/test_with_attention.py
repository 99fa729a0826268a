"""Every head with every kind of block: built at two sizes, trained a step, saved, loaded, folded; and through the scripts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import detect
import train
import val
from models import build_model
from models.detector import Detector
from models.spec.model_spec import ModelSpec
from tests.models.test_every_yaml import folds_and_is_saved, train_step
from utils.data.shapes import write_dataset

HEADS: dict[str, list[Any]] = {
    "Decoupled_Detect": [1, "Decoupled_Detect", ["nc", "anchors"]],
    "IDetect": [1, "IDetect", ["nc", "anchors"]],
    "IAuxDetect": [1, "IAuxDetect", ["nc", "anchors"]],
    "ASFF_Detect": [1, "ASFF_Detect", ["nc", "anchors"]],
    "DetectX": [1, "DetectX", ["nc"]],
    "EffDecHead": [1, "EffDecHead", ["nc"]],
    "DetectDFL": [1, "DetectDFL", ["nc"]],
}
BLOCKS = ("plain", "ca", "cot", "gnconv", "dyhead")
PAIRS = [
    pytest.param(head, block, marks=() if (head, block) in {("DetectDFL", "ca"), ("IAuxDetect", "plain")} else pytest.mark.slow)
    for head in HEADS
    for block in BLOCKS
    if (head, block) != ("IAuxDetect", "dyhead")  # a dynamic head hands over one pyramid, and no maps of the backbone beside it
]


def spec_of(head: str, block: str, letter: str = "n") -> dict[str, Any]:
    base = ModelSpec.from_yaml(f"yolov5{letter}" if block == "plain" else f"yolov5{letter}-{block}")
    content, reads = base.to_dict(), list(base.rows[-1].sources)
    if head == "IAuxDetect":  # the backbone's maps of the same strides, whatever a variant made of these rows
        last = {row.origin.partition("=")[0]: row.index for row in base.rows}
        reads += [last["4"], last["6"], last["9"]]
    content["head"] = [[reads, *HEADS[head]]]
    content["identities"][-1] = f"24={head}"
    return content


def model_of(head: str, block: str, letter: str = "n") -> Detector:
    return build_model(spec_of(head, block, letter), nc=3)


@pytest.mark.parametrize(("head", "block"), PAIRS)
def test_it_trains_is_saved_and_folds(head: str, block: str, tmp_path: Path) -> None:
    train_step(model_of(head, block), torch.float32)
    folds_and_is_saved(model_of(head, block).eval(), tmp_path / "a.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("head", "block"), PAIRS)
def test_at_size_s_and_in_half_precision(head: str, block: str, tmp_path: Path) -> None:
    model = model_of(head, block, "s")
    train_step(model, torch.bfloat16)
    folds_and_is_saved(model_of(head, block, "s").eval(), tmp_path / "a.pt")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 64 pixels."""
    return write_dataset(tmp_path_factory.mktemp("shapes"), {"train": 16, "val": 4}, size=64, seed=0)


def written(head: str, block: str, folder: Path) -> Path:
    path = folder / "model.yaml"
    path.write_text(json.dumps({k: v for k, v in spec_of(head, block).items() if v is not None}), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("head", "block"), PAIRS)
def test_it_goes_through_the_scripts(head: str, block: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed after the first epoch, a run ends as an uninterrupted one, Wise-IoU's mean included."""
    where = ["--imgsz", "64", "--device", "cpu", "--project", str(tmp_path)]
    common = [*where, "--data", str(shapes), "--workers", "0", "--noplots"]
    setting = ["--cfg", str(written(head, block, tmp_path)), "--weights", "", "--batch-size", "8", "--box-loss", "wiou-v3", "--epochs", "2"]
    train.main([*common, *setting, "--name", "straight", "--save-period", "1", "--keep-resume"])
    monkeypatch.chdir(tmp_path)
    train.main(["--resume", str(tmp_path / "straight" / "weights" / "epoch0.pt"), "--project", str(tmp_path), "--name", "resumed"])
    ends = [torch.load(tmp_path / name / "weights" / "last.pt", weights_only=True) for name in ("straight", "resumed")]
    assert all(torch.equal(ends[0]["ema"][k], v) for k, v in ends[1]["ema"].items())
    assert ends[0]["resume"]["box_loss"] == ends[1]["resume"]["box_loss"] != [1.0]

    weights = str(tmp_path / "straight" / "weights" / "best.pt")
    val.main([*common, "--weights", weights, "--name", "val"])
    assert json.loads((tmp_path / "val" / "metrics.json").read_text(encoding="utf-8"))["images"] == 4
    source = ["--source", str(shapes.parent / "images" / "val"), "--conf-thres", "0.001", "--max-det", "5", "--attention"]
    monkeypatch.setattr(sys, "argv", ["detect.py", *where, "--weights", weights, *source, "--name", "detect"])
    detect.main()
    assert len(list((tmp_path / "detect").glob("*.*"))) == 4
