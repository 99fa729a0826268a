"""The loss on numbers worked out by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from utils.config import Hyp
from utils.training.losses.loss import DetectionLoss

LN2 = math.log(2)


def head(levels: int = 3) -> SimpleNamespace:
    return SimpleNamespace(anchors=torch.ones(levels, 1, 2), stride=torch.ones(levels))


def maps(levels: int = 3, nc: int = 2, images: int = 1, fill: float = 0.0) -> list[torch.Tensor]:
    return [torch.full((images, 1, 8 >> i, 8 >> i, 5 + nc), fill, requires_grad=True) for i in range(levels)]


def loss(nc: int = 2, imgsz: int = 640, levels: int = 3, smoothing: float = 0.0, **hyp: float) -> DetectionLoss:
    return DetectionLoss(head(levels), Hyp(**hyp), imgsz, nc, label_smoothing=smoothing)


def test_without_targets_only_objectness_counts():
    total, terms = loss()(maps(images=2), torch.zeros(0, 6))
    assert terms["obj"].item() == pytest.approx(LN2 * (4 + 1 + 0.4), rel=1e-6)  # every logit 0, every target 0
    assert terms["box"].item() == terms["cls"].item() == 0
    assert total.item() == pytest.approx(2 * LN2 * 5.4, rel=1e-6)  # times two images


def test_gains_follow_size_levels_and_classes():
    _, terms = loss(imgsz=320, obj=0.7)(maps(), torch.zeros(0, 6))
    assert terms["obj"].item() == pytest.approx(0.7 * 0.25 * LN2 * 5.4, rel=1e-6)
    five = loss(levels=5, nc=40)
    assert (five.box_gain, five.cls_gain, five.obj_gain) == pytest.approx((0.05 * 3 / 5, 0.5 * 3 / 5 * 40 / 80, 3 / 5))
    assert five.balance == (4.0, 1.0, 0.25, 0.06, 0.02)


def test_one_perfect_target():
    """Centre of cell (4, 4) of the 8 x 8 map, size 1 x 1 cells: zero logits mean exactly this box, so CIoU is 1."""
    targets = torch.tensor([[0, 1, 4.5 / 8, 4.5 / 8, 1 / 8, 1 / 8]])
    total, terms = loss(levels=1)(maps(levels=1), targets)
    # One cell of 64 has objectness target 1, the others 0: BCE at logit 0 is ln 2 for both. Gains: times 3 / 1 levels.
    assert terms["box"].item() == pytest.approx(0, abs=1e-5)
    assert terms["obj"].item() == pytest.approx(3 * 4 * LN2, rel=1e-5)
    assert terms["cls"].item() == pytest.approx(0.5 * 3 * 2 / 80 * LN2, rel=1e-5)
    assert total.item() == pytest.approx(sum(t.item() for t in terms.values()), rel=1e-6)


def test_objectness_gradient_carries_the_iou():
    raw = maps(levels=1)
    targets = torch.tensor([[0, 1, 4.5 / 8, 4.5 / 8, 1 / 8, 2 / 8]])  # twice as high as predicted
    total, _ = loss(levels=1)(raw, targets)
    total.backward()
    angle = math.atan(0.5) - math.atan(1)
    v = 4 / math.pi**2 * angle**2
    ciou = 0.5 - v * v / (v - 0.5 + 1)  # centres agree: no distance term
    gradient = raw[0].grad[0, 0, :, :, 4]
    assert gradient[4, 4].item() == pytest.approx(3 * 4 * (0.5 - ciou) / 64, rel=1e-4)  # sigmoid(0) - target, mean over 64
    assert gradient[0, 0].item() == pytest.approx(3 * 4 * 0.5 / 64, rel=1e-4)


def test_best_of_two_targets_of_a_cell_sets_its_objectness_in_any_order():
    good, poor = [0, 1, 4.5 / 8, 4.5 / 8, 1 / 8, 1 / 8], [0, 0, 4.5 / 8, 4.5 / 8, 3 / 8, 1 / 8]
    gradients = []
    for rows in ([good, poor], [poor, good]):
        raw = maps(levels=1)
        loss(levels=1)(raw, torch.tensor(rows))[0].backward()
        gradients.append(raw[0].grad)
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[0][0, 0, 4, 4, 4].item() == pytest.approx(3 * 4 * (0.5 - 1) / 64, rel=1e-4)


def test_gradient_equals_that_of_plain_indexing():
    generator = torch.Generator().manual_seed(1)
    targets = torch.rand(12, 6, generator=generator) * torch.tensor([1, 2, 1, 1, 0.4, 0.4])
    targets[:, :2] = targets[:, :2].floor()
    raw = [torch.randn(1, 1, 8 >> i, 8 >> i, 7, generator=generator, dtype=torch.float64).requires_grad_() for i in range(3)]
    criterion = loss()
    criterion(raw, targets)[0].backward()
    step, direction = 1e-3, [torch.randn(m.shape, generator=generator, dtype=torch.float64) for m in raw]
    with torch.no_grad():
        # The objectness targets are constants to the gradient, so only box and class terms may be differenced.
        def value(sign: float) -> float:
            moved = [m + sign * step * d * mask for m, d, mask in zip(raw, direction, masks, strict=True)]
            return float(criterion(moved, targets)[1]["cls"])

        masks = [torch.cat((torch.zeros(5), torch.ones(2))).expand(m.shape) for m in raw]
        slope = (value(1) - value(-1)) / (2 * step)
    expected = sum(float((m.grad * d * mask).sum()) for m, d, mask in zip(raw, direction, masks, strict=True))
    assert slope == pytest.approx(expected, rel=2e-3)


def test_label_smoothing_and_positive_weight():
    targets = torch.tensor([[0, 1, 4.5 / 8, 4.5 / 8, 1 / 8, 1 / 8]])
    raw = maps(levels=1)
    with torch.no_grad():
        raw[0][..., 6] = 2.0
    gain = 0.5 * 3 * 2 / 80
    softplus = math.log1p(math.exp(-2))
    positive = 0.95 * softplus + 0.05 * (softplus + 2)  # target 1 - 0.1 / 2 at logit 2
    _, terms = loss(levels=1, smoothing=0.1)(raw, targets)
    assert terms["cls"].item() == pytest.approx(gain * (LN2 + positive) / 2, rel=1e-5)
    _, terms = loss(levels=1, cls_pw=0.5)(raw, targets)
    assert terms["cls"].item() == pytest.approx(gain * (LN2 + 0.5 * softplus) / 2, rel=1e-5)


def test_focal_loss():
    _, terms = loss(levels=1, fl_gamma=1.5)(maps(levels=1), torch.zeros(0, 6))
    assert terms["obj"].item() == pytest.approx(3 * 4 * LN2 * 0.75 * 0.5**1.5, rel=1e-5)


def test_one_class_has_no_class_loss():
    _, terms = loss(nc=1, levels=1)(maps(levels=1, nc=1), torch.tensor([[0, 0, 0.5, 0.5, 0.1, 0.1]]))
    assert terms["cls"].item() == 0
