"""Class losses of single elements against their formulas in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from utils.errors import UserError
from utils.training.losses.class_losses import ClassLoss


def logits(count: int = 30) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


def test_focal_is_torchvisions_at_hard_targets() -> None:
    x = logits()
    target = (torch.arange(30) % 3 == 0).double()
    torch.testing.assert_close(ClassLoss("focal")(x, target), sigmoid_focal_loss(x, target))
    torch.testing.assert_close(ClassLoss("focal", gamma=1.5)(x, target), sigmoid_focal_loss(x, target, gamma=1.5))
    assert torch.equal(ClassLoss("bce", gamma=1.5)(x, target), ClassLoss("focal", gamma=1.5)(x, target))


@pytest.mark.parametrize("name", ["quality-focal", "varifocal"])
def test_soft_targets(name: str) -> None:
    x, target = logits().requires_grad_(), torch.linspace(-0.5, 1, 30, dtype=torch.float64).clamp(min=0)
    loss = ClassLoss(name)(x, target)
    for found, logit, q in zip(loss.tolist(), x.tolist(), target.tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        entropy = -(q * math.log(p) + (1 - q) * math.log(1 - p))
        weight = abs(q - p) ** 2 if name == "quality-focal" else q if q > 0 else 0.75 * p**2
        assert found == pytest.approx(weight * entropy)
    assert torch.autograd.gradcheck(lambda x: ClassLoss(name)(x, target), x)


def test_slide_weighs_around_the_mean_iou() -> None:
    quality = torch.tensor([0.0, 0.2, 0.45, 0.6, 0.75])  # their mean without the 0 is 0.5
    x, target = torch.zeros(5, 2), torch.ones(5, 2)
    expected = [1, 1, math.exp(0.5), math.exp(0.4), math.exp(0.25)]
    loss = ClassLoss("slide")(x, target, quality[:, None])
    torch.testing.assert_close(loss, math.log(2) * torch.tensor(expected)[:, None].expand(5, 2))
    torch.testing.assert_close(ClassLoss("slide")(x[:, 0], quality), math.log(2) * torch.tensor(expected))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'varifocal'"):
        ClassLoss("varifocals")
