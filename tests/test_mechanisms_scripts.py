"""Mechanisms of zoo/ and backbones of timm through the scripts: trained for an epoch on drawn shapes, resumed, measured, used."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import detect
import train
import val
from utils.data.shapes import write_dataset

MECHANISMS = ("muse", "crossformer", "irmb", "repmlp", "dynamicconv", "dbb", "rfaconv", "dyhead", "afpn", "lsknet")
NETWORKS = ("convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 96 pixels."""
    return write_dataset(tmp_path_factory.mktemp("shapes"), {"train": 16, "val": 4}, size=96, seed=0)


def on_timm(folder: Path, network: str, *, pretrained: bool) -> Path:
    """A model YAML of yolov5n on a network of timm, with a file of weights or from scratch."""
    args: list[Any] = [network]
    if pretrained:
        timm = pytest.importorskip("timm")
        torch.save(timm.create_model(network).state_dict(), folder / "weights.pth")
        args.append({"pretrained": str(folder / "weights.pth")})
    maps = [{"replace": row, "with": [0, 1, "Feature", [i]]} for i, row in enumerate((4, 6, 8))]
    edits = [{"replace": 0, "with": [1, "timm", args]}, *({"remove": row} for row in (1, 2, 3, 5, 7)), *maps]
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({"base": "yolov5n.yaml", "edits": edits}), encoding="utf-8")
    return path


def goes_through(cfg: str, shapes: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """Train an epoch, resume for another, validate and detect."""
    common = ["--data", str(shapes), "--imgsz", "64", "--device", "cpu", "--project", str(folder)]
    loading = ["--batch-size", "4", "--workers", "0", "--noplots", "--noautoanchor", "--keep-resume"]
    train.main([*common, "--cfg", cfg, "--weights", "", "--epochs", "1", *loading, *flags, "--name", "train"])
    train.main(["--resume", str(folder / "train"), "--epochs", "2"])
    with (folder / "train" / "results.csv").open(encoding="utf-8") as file:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(file)]
    assert [int(row["epoch"]) for row in rows] == [0, 1]
    assert all(math.isfinite(float(row[f"train/{part}_loss"])) for row in rows for part in ("box", "obj", "cls"))
    weights = str(folder / "train" / "weights" / "best.pt")
    val.main([*common, "--weights", weights, "--name", "val", "--workers", "0"])
    assert json.loads((folder / "val" / "metrics.json").read_text(encoding="utf-8"))["images"] == 4
    argv = ["--weights", weights, "--source", str(shapes.parent / "images" / "val"), "--imgsz", "64", "--project", str(folder)]
    monkeypatch.setattr(sys, "argv", ["detect.py", *argv, "--name", "detect", "--conf-thres", "0.001", "--max-det", "5"])
    detect.main()
    assert len(list((folder / "detect").glob("*.*"))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_goes_through_the_scripts(name: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_through(f"yolov5n-{name}.yaml", shapes, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_of_timm_goes_through_the_scripts(
    network: str, pretrained: bool, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    cfg = on_timm(tmp_path, network, pretrained=pretrained)
    goes_through(str(cfg), shapes, tmp_path, monkeypatch, *(("--backbone_lr", "0.1") if pretrained else ()))
