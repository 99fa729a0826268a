"""Box losses against torchvision's, and against formulas of single boxes in plain Python with derivatives by differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from utils.boxes import cxcywh_to_xyxy
from utils.errors import UserError
from utils.training.losses.box_losses import parse_box_loss
from utils.training.losses.box_pairs import Pairs

IMAGE = (40.0, 30.0)
PIXELS = 8.0
Box = list[float]


def scenes(count: int = 40) -> tuple[Tensor, Tensor]:
    """Overlapping, nested and separate pairs in float64."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(count, 4, generator=generator, dtype=torch.float64) * torch.tensor([30, 20, 8, 8]) + torch.tensor([2, 2, 0.2, 0.2])
    moved = torch.randn(count, 2, generator=generator, dtype=torch.float64) * target[:, 2:] * torch.linspace(0.05, 1.5, count)[:, None]
    sides = target[:, 2:] * torch.exp(torch.randn(count, 2, generator=generator, dtype=torch.float64) * 0.5)
    return torch.cat((target[:, :2] + moved, sides), 1), target


def value_and_gradient(name: str, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    pred = pred.clone().requires_grad_()
    loss, _ = parse_box_loss(name)(Pairs(pred, target, PIXELS, IMAGE))
    loss.sum().backward()
    assert pred.grad is not None
    return loss.detach(), pred.grad


@pytest.mark.parametrize(
    ("name", "oracle"), [("giou", generalized_box_iou_loss), ("diou", distance_box_iou_loss), ("ciou", complete_box_iou_loss)]
)
def test_values_and_gradients_are_torchvisions(name: str, oracle: object) -> None:
    pred, target = scenes()
    loss, gradient = value_and_gradient(name, pred, target)
    given = pred.clone().requires_grad_()
    expected = oracle(cxcywh_to_xyxy(given), cxcywh_to_xyxy(target))  # type: ignore[operator]
    expected.sum().backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, given.grad, rtol=0, atol=1e-6)
    torch.testing.assert_close(value_and_gradient(f"{name}:0.5+{name}:0.5", pred, target)[0], expected.detach(), rtol=0, atol=1e-6)


def overlap(p: Box, t: Box, ratio: float = 1.0) -> float:
    sides = [
        max(
            0.0,
            min(p[i] + ratio * p[i + 2] / 2, t[i] + ratio * t[i + 2] / 2) - max(p[i] - ratio * p[i + 2] / 2, t[i] - ratio * t[i + 2] / 2),
        )
        for i in (0, 1)
    ]
    common = sides[0] * sides[1]
    return common / (ratio**2 * (p[2] * p[3] + t[2] * t[3]) - common)


def hull(p: Box, t: Box) -> tuple[float, float]:
    width, height = (max(p[i] + p[i + 2] / 2, t[i] + t[i + 2] / 2) - min(p[i] - p[i + 2] / 2, t[i] - t[i + 2] / 2) for i in (0, 1))
    return width, height


def plain_eiou(p: Box, t: Box) -> list[float]:
    cw, ch = hull(p, t)
    distance = ((p[0] - t[0]) ** 2 + (p[1] - t[1]) ** 2) / (cw**2 + ch**2)
    return [distance, (p[2] - t[2]) ** 2 / cw**2, (p[3] - t[3]) ** 2 / ch**2]


def plain_siou(p: Box, t: Box) -> float:
    """The paper's form, with its arcsin."""
    cw, ch = hull(p, t)
    sigma = math.hypot(p[0] - t[0], p[1] - t[1])
    angle = 1 - 2 * math.sin(math.asin(abs(p[1] - t[1]) / sigma) - math.pi / 4) ** 2
    gamma = 2 - angle
    distance = 2 - math.exp(-gamma * ((p[0] - t[0]) / cw) ** 2) - math.exp(-gamma * ((p[1] - t[1]) / ch) ** 2)
    shape = sum((1 - math.exp(-abs(p[i] - t[i]) / max(p[i], t[i]))) ** 4 for i in (2, 3))
    return (distance + shape) / 2


def plain_shape(p: Box, t: Box) -> float:
    cw, ch = hull(p, t)
    ww, hh = 2 * t[2] / (t[2] + t[3]), 2 * t[3] / (t[2] + t[3])
    distance = (hh * (p[0] - t[0]) ** 2 + ww * (p[1] - t[1]) ** 2) / (cw**2 + ch**2)
    omega = (hh * abs(p[2] - t[2]) / max(p[2], t[2]), ww * abs(p[3] - t[3]) / max(p[3], t[3]))
    return distance + 0.5 * sum((1 - math.exp(-o)) ** 4 for o in omega)


def corner_distances(p: Box, t: Box) -> list[float]:
    square = IMAGE[0] ** 2 + IMAGE[1] ** 2
    return [sum((p[i] + s * p[i + 2] / 2 - t[i] - s * t[i + 2] / 2) ** 2 for i in (0, 1)) / square for s in (-1, 1)]


def plain_nwd(p: Box, t: Box) -> float:
    squared = sum((p[i] - t[i]) ** 2 for i in (0, 1)) + sum(((p[i] - t[i]) / 2) ** 2 for i in (2, 3))
    return 1 - math.exp(-math.sqrt(squared) * PIXELS / 12.8)


def plain_wise(p: Box, t: Box, fixed: Box) -> float:
    cw, ch = hull(fixed, t)
    return math.exp(((p[0] - t[0]) ** 2 + (p[1] - t[1]) ** 2) / (cw**2 + ch**2)) * (1 - overlap(p, t))


PLAIN: dict[str, Callable[[Box, Box, Box], float]] = {
    "iou": lambda p, t, _: 1 - overlap(p, t),
    "eiou": lambda p, t, _: 1 - overlap(p, t) + sum(plain_eiou(p, t)),
    "siou": lambda p, t, _: 1 - overlap(p, t) + plain_siou(p, t),
    "shape-iou": lambda p, t, _: 1 - overlap(p, t) + plain_shape(p, t),
    "mpdiou": lambda p, t, _: 1 - overlap(p, t) + sum(corner_distances(p, t)),
    "nwd": lambda p, t, _: plain_nwd(p, t),
    "focal-eiou": lambda p, t, fixed: overlap(fixed, t) ** 0.5 * PLAIN["eiou"](p, t, fixed),
    "focal2-siou": lambda p, t, fixed: overlap(fixed, t) ** 2 * PLAIN["siou"](p, t, fixed),
    "alpha-eiou": lambda p, t, _: 1 - overlap(p, t) ** 3 + sum(term**3 for term in plain_eiou(p, t)),
    "alpha2-mpdiou": lambda p, t, _: 1 - overlap(p, t) ** 2 + sum(term**2 for term in corner_distances(p, t)),
    "inner-eiou": lambda p, t, fixed: PLAIN["eiou"](p, t, fixed) + overlap(p, t) - overlap(p, t, 0.7),
    "inner1.2-siou": lambda p, t, fixed: PLAIN["siou"](p, t, fixed) + overlap(p, t) - overlap(p, t, 1.2),
    "nwd:0.3+siou:0.7": lambda p, t, fixed: 0.3 * plain_nwd(p, t) + 0.7 * PLAIN["siou"](p, t, fixed),
    "wiou-v1": plain_wise,
    "wiou-v2": lambda p, t, fixed: (1 - overlap(fixed, t)) ** 0.5 * plain_wise(p, t, fixed),  # over a running mean of 1
    "wiou-v3": lambda p, t, fixed: (b := 1 - overlap(fixed, t)) / (3 * 1.9 ** (b - 3)) * plain_wise(p, t, fixed),
}
"""The loss of one pair (predicted, target, and what stands for the predicted box where a loss takes no gradient)."""


@pytest.mark.parametrize("name", PLAIN)
def test_values_and_gradients_are_the_papers(name: str) -> None:
    pred, target = scenes()
    loss, gradient = value_and_gradient(name, pred, target)
    step = 1e-6
    for i, (p, t) in enumerate(zip(pred.tolist(), target.tolist(), strict=True)):
        assert loss[i].item() == pytest.approx(PLAIN[name](p, t, p), abs=1e-6)
        for k in range(4):
            more, less = ([v + (sign * step if j == k else 0) for j, v in enumerate(p)] for sign in (1, -1))
            slope = (PLAIN[name](more, t, p) - PLAIN[name](less, t, p)) / (2 * step)
            assert gradient[i, k].item() == pytest.approx(slope, abs=2e-6), (i, k)


@pytest.mark.parametrize("name", ["giou", "diou", "eiou", "siou", "shape-iou", "mpdiou", "nwd", "alpha-giou", "inner-diou", "alpha-siou"])
def test_gradcheck(name: str) -> None:
    pred, target = scenes(12)
    loss = parse_box_loss(name)
    assert torch.autograd.gradcheck(lambda p: loss(Pairs(p, target, PIXELS, IMAGE))[0], pred.requires_grad_())


@pytest.mark.parametrize("name", ["alpha1-ciou", "inner1-ciou", "ciou:0.5+ciou:0.5"])
def test_ciou_has_one_gradient_however_it_is_written(name: str) -> None:
    pred, target = scenes()
    torch.testing.assert_close(value_and_gradient(name, pred, target), value_and_gradient("ciou", pred, target))


@pytest.mark.parametrize("name", ["ciou", *PLAIN, "alpha0.5-ciou", "alpha-siou"])
def test_equal_boxes_cost_nothing_and_every_gradient_is_finite(name: str) -> None:
    target = torch.tensor([[5.0, 5, 2, 3], [5, 5, 2, 3], [5, 5, 2, 3], [5, 5, 1e-4, 1e-4]])
    pred = target + torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [30, 0, 0, 0], [0, 0, 0, 0]])  # equal, level, apart, tiny
    loss, gradient = value_and_gradient(name, pred, target)
    assert loss[0].item() == pytest.approx(0, abs=1e-3)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert value_and_gradient(name, pred[:0], target[:0])[0].shape == (0,)


def test_the_running_mean_of_wise_iou_moves_per_batch_and_is_kept() -> None:
    pred, target = scenes()
    loss = parse_box_loss("wiou-v3:0.5+inner-wiou-v2:0.5")
    loss(Pairs(pred[:10], target[:10]))
    loss(Pairs(pred[10:], target[10:]))
    assert loss.state() == [1.0, 1.0]
    loss.step(torch.device("cpu"))
    mean = sum(1 - overlap(p, t) for p, t in zip(pred.tolist(), target.tolist(), strict=True)) / len(pred)
    assert loss.state() == pytest.approx([1 + 0.01 * (mean - 1)] * 2)
    loss(Pairs(pred * math.nan, target))
    loss.step(torch.device("cpu"))
    assert all(map(math.isfinite, loss.state()))
    other = parse_box_loss("wiou-v3:0.5+inner-wiou-v2:0.5")
    other.restore(loss.state())
    assert torch.equal(other(Pairs(pred, target))[0], loss(Pairs(pred, target))[0])


def test_the_quality_is_the_iou_and_of_ciou_the_ciou() -> None:
    pred, target = scenes()
    iou = torch.tensor([overlap(p, t) for p, t in zip(pred.tolist(), target.tolist(), strict=True)])
    torch.testing.assert_close(parse_box_loss("siou")(Pairs(pred, target))[1].float(), iou, rtol=0, atol=1e-6)
    loss, quality = parse_box_loss("ciou")(Pairs(pred, target))
    assert torch.equal(quality, (1 - loss).clamp(min=0)) or torch.allclose(quality, (1 - loss).clamp(min=0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eio", "did you mean 'iou'|did you mean 'eiou'"),
        ("", "unknown box loss ''"),
        ("alpha-wiou-v3", "alpha is a power"),
        ("nwd:x+ciou", "weight of nwd must be a number above 0, not 'x'"),
        ("nwd:-1", "not '-1'"),
        ("inner0-ciou", "number after inner"),
        ("inner-ciu", "unknown box loss 'ciu'; did you mean 'ciou'"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_box_loss(name)
