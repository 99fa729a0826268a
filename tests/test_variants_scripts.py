"""Each shipped mechanism through the three scripts: trained on drawn shapes, measured, used."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import pytest

import detect
import train
import val
from utils.data.shapes import write_dataset
from utils.explain.cam import attention_maps

NAMES = ("ca", "cot", "bot", "gnconv", "horblock", "hornet", "horfpn", "cat", "se", "cbam")
BLOCKS = {"ca": 3, "cot": 4, "bot": 1, "gnconv": 3, "horblock": 2, "hornet": 25, "horfpn": 3, "cat": 3, "se": 3, "cbam": 6}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 96 pixels."""
    return write_dataset(tmp_path_factory.mktemp("shapes"), {"train": 32, "val": 8}, size=96, seed=0)


def losses(folder: Path) -> list[float]:
    """Sum of the three training losses, epoch by epoch."""
    with (folder / "results.csv").open(encoding="utf-8") as file:
        rows = [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(file)]
    return [sum(float(row[f"train/{part}_loss"]) for part in ("box", "obj", "cls")) for row in rows]


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_a_variant_goes_through_the_scripts(name: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ["--data", str(shapes), "--imgsz", "96", "--device", "cpu", "--project", str(tmp_path)]
    setting = ["--cfg", f"yolov5n-{name}.yaml", "--weights", "", "--optimizer", "Adam", "--lr0", "0.002", "--warmup-epochs", "0"]
    loading = ["--epochs", "4", "--batch-size", "8", "--workers", "0", "--noplots", "--noautoanchor", "--mosaic", "0"]
    train.main([*common, *setting, *loading, "--name", "train"])
    trend = losses(tmp_path / "train")
    assert all(math.isfinite(loss) for loss in trend)
    assert trend[-1] < trend[0]

    weights = str(tmp_path / "train" / "weights" / "best.pt")
    val.main([*common, "--weights", weights, "--name", "val", "--workers", "0"])
    metrics = json.loads((tmp_path / "val" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["images"] == 8
    assert 0 <= metrics["ap"] <= 1

    source = shapes.parent / "images" / "val"
    argv = ["--weights", weights, "--source", str(source), "--imgsz", "96", "--conf-thres", "0.001", "--max-det", "5", "--attention"]
    monkeypatch.setattr(sys, "argv", ["detect.py", *argv, "--project", str(tmp_path), "--name", "detect"])
    detect.main()
    assert len(list((tmp_path / "detect").glob("*.*"))) == len(list((tmp_path / "detect" / "attention").glob("*.jpg"))) == 8


@pytest.mark.parametrize("name", NAMES)
def test_every_mechanism_shows_its_maps(name: str) -> None:
    import torch

    from models import build_model

    maps = attention_maps(build_model(f"yolov5n-{name}", nc=1), torch.rand(1, 3, 64, 96), (50, 20))
    assert len(maps) == BLOCKS[name]
    for _, found in maps:
        assert math.isfinite(found.sum())
        assert found.min() >= 0
