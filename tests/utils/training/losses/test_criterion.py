"""Criteria of heads without anchors on numbers worked out by hand, and which assigner fits which head."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from models import build_model
from models.heads.dfl import DetectDFL
from models.heads.yolox import DetectX
from utils.config import Hyp
from utils.errors import UserError
from utils.training.losses.criterion import build_criterion
from utils.training.losses.point_loss import DistributionLoss, ObjectnessLoss

LN2 = math.log(2)
TARGET = torch.tensor([[0, 1, 0.5, 0.5, 0.5, 0.5]])  # 16..48 pixels of 64, in both axes


def dfl(**hyp: Any) -> tuple[DetectDFL, DistributionLoss]:
    head = DetectDFL((16,), 2)
    head.set_strides([8])
    return head, DistributionLoss(head, Hyp(**hyp), "task-aligned")


def test_without_objects_only_classes_count() -> None:
    _, loss = dfl()
    total, terms = loss([torch.zeros(2, 66, 8, 8)], torch.zeros(0, 6))
    assert terms["cls"].item() == pytest.approx(0.5 * 2 * 64 * 2 * LN2, rel=1e-6)  # 2 images, 64 cells, 2 classes
    assert terms["box"].item() == terms["obj"].item() == 0
    assert total.item() == pytest.approx(2 * terms["cls"].item(), rel=1e-6)


def test_perfect_boxes_leave_the_entropy_of_their_distributions() -> None:
    """Two 4 x 4 cells of 8 pixels inside; each predicts its sides exactly, as the mean of the two bins beside it."""
    _, loss = dfl()
    raw = torch.full((1, 66, 8, 8), -50.0)
    raw[:, 64:] = 0.0
    for y in range(8):
        for x in range(8):
            for side, d in enumerate((x + 0.5 - 2, y + 0.5 - 2, 6 - x - 0.5, 6 - y - 0.5)):
                low = min(max(math.floor(d), 0), 14)
                raw[0, side * 16 + low, y, x] = raw[0, side * 16 + low + 1, y, x] = 0.0  # both bins at 1/2: mean low + 0.5
    _, terms = loss([raw], TARGET)
    # IoU 1: of the ten best cells each has quality 1, so the weighted mean of the DFL is ln 2, times 1.5; no box loss.
    assert terms["box"].item() == pytest.approx(1.5 * LN2, rel=1e-3)
    # 54 cells at target 0, 10 at (0, 1), every logit 0, over the sum of qualities, 10
    assert terms["cls"].item() == pytest.approx(0.5 * 64 * 2 * LN2 / 10, rel=1e-3)


def test_distances_beyond_the_last_bin_are_cut() -> None:
    _, loss = dfl()
    logits = torch.zeros(1, 64)
    expected = math.log(16)
    assert loss.distribution(logits, torch.tensor([[-3.0, 0.25, 14.99, 40.0]])).item() == pytest.approx(expected, rel=1e-5)


def test_yolox_on_one_perfect_object() -> None:
    head = DetectX((16,), 2)
    head.set_strides([8])
    loss = ObjectnessLoss(head, Hyp(), "simota")
    raw = torch.zeros(1, 1, 8, 8, 7)
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    raw[0, 0, ..., 0], raw[0, 0, ..., 1] = 4 - x, 4 - y  # every cell predicts the object's box
    raw[0, 0, ..., 2:4] = math.log(4)
    _, terms = loss([raw], TARGET)
    # dynamic k: ten IoUs of 1. All logits 0: objectness ln 2 at 64 cells, classes ln 2 at 10 cells x 2, each over 10.
    assert terms["box"].item() == pytest.approx(0, abs=1e-4)
    assert terms["obj"].item() == pytest.approx(64 * LN2 / 10, rel=1e-4)
    assert terms["cls"].item() == pytest.approx(2 * LN2, rel=1e-4)


@pytest.mark.parametrize("name", ["dfl", "x", "decoupled"])
def test_gradients_are_finite_for_extreme_objects(name: str) -> None:
    model = build_model(f"yolov5n-{name}", 3)
    targets = torch.tensor([[0, 1, 0.5, 0.5, 1e-4, 1e-4], [0, 0, 0.99, 0.01, 3.0, 3.0], [2, 2, 0.2, 0.3, 0.1, 0.2]])
    maps = model(torch.rand(3, 3, 64, 96))
    total, _ = build_criterion(model, Hyp(), 96)(maps, targets)
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("assigner", ["task-aligned", "simota", "atss"])
@pytest.mark.parametrize("box_loss", ["eiou", "wiou-v3"])
def test_every_assigner_and_box_loss_trains_a_head_without_anchors(assigner: str, box_loss: str) -> None:
    torch.manual_seed(0)
    head, loss = dfl(box_loss=box_loss)
    loss = DistributionLoss(head, Hyp(box_loss=box_loss), assigner)
    raw = torch.zeros(1, 66, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([raw], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss([raw], TARGET)[0].backward()
        optimizer.step()
    best = head.decode([raw.detach()])[0]
    best = best[best[:, 6].argmax()]
    torch.testing.assert_close(best[:4], torch.tensor([32.0, 32, 32, 32]), rtol=0, atol=2)


def test_an_assigner_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="'simota' does not fit Detect; Detect takes anchor-ratio"):
        build_criterion(build_model("yolov5n"), Hyp(assigner="simota"), 64)
    with pytest.raises(UserError, match="did you mean 'simota'"):
        build_criterion(build_model("yolov5n-dfl"), Hyp(assigner="simotta"), 64)
