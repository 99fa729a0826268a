"""A small checkpoint to export, and exports of it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from models import build_model
from models.detector import Detector
from tests.tiny_model import TINY
from utils.training.checkpoint import save_checkpoint

NAMES = {0: "ring", 1: "moon's", 2: "heart"}


@pytest.fixture(scope="session")
def detector() -> Detector:
    """Three classes, norms that have seen something, and some confident boxes."""
    spec = copy.deepcopy(TINY)
    model = build_model({**spec, "nc": 3}, names=NAMES)
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(std=0.05, generator=generator)
            norm.running_var.uniform_(0.8, 1.2, generator=generator)
    with torch.no_grad():
        for conv in model.head.m:
            conv.bias.view(-1, 8)[:, 4:] = 0
            conv.weight.mul_(60)
    return model.eval()


@pytest.fixture
def checkpoint(detector: Detector, tmp_path: Path) -> Path:
    """The detector in a file of its own folder."""
    path = tmp_path / "weights" / "best.pt"
    path.parent.mkdir()
    rest = {"config": {}, "hyp": {}, "epoch": 0, "metrics": {}, "ema": None, "resume": None}
    save_checkpoint(path, {"attune": 1, "spec": detector.spec.to_dict(), "names": NAMES, "model": detector.state_dict(), **rest})
    return path
