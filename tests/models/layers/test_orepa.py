"""OREPA's kernel against the branches as convolutions of maps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.folding import fold_norms
from models.layers.orepa import OREPA, cosine_filters


@pytest.mark.parametrize("g", [1, 2])
def test_one_kernel_is_the_sum_of_all_branches(g: int) -> None:
    block = OREPA(6, 8, 3, 1, g).double()
    with torch.no_grad():
        for factor in block.factors.values():
            factor.normal_()
        block.deep1.normal_()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    f = {name: factor.view(-1, 1, 1) for name, factor in block.factors.items()}
    y = f["dense"] * F.conv2d(x, block.dense, padding=1, groups=g)
    y = y + f["point"] * F.conv2d(x, block.point, groups=g)
    y = y + f["mean"] * F.avg_pool2d(F.conv2d(x, block.mean, groups=g), 3, 1, 1)
    y = y + f["cosine"] * F.conv2d(F.conv2d(x, block.cosine, groups=g), block.cosines, padding=1, groups=8)
    first = (block.deep1 + torch.eye(6 // g)).reshape(6, 6 // g, 1, 1)
    y = y + f["deep"] * F.conv2d(F.conv2d(x, first, groups=g), block.deep2, padding=1, groups=g)
    y = y + f["wide"] * F.conv2d(F.conv2d(x, block.wide1, padding=1, groups=6), block.wide2, groups=g)
    torch.testing.assert_close(F.conv2d(x, block.kernel(), padding=1, groups=g), y)


def test_the_fixed_filters_are_cosines_down_and_across() -> None:
    filters = cosine_filters(5, 3)
    wave = [math.cos(math.pi / 3 * 2 * (i + 0.5)) for i in range(3)]
    torch.testing.assert_close(filters[1], torch.tensor([[w] * 3 for w in wave]))
    torch.testing.assert_close(filters[4], torch.tensor([wave] * 3))
    assert torch.equal(filters[3], filters[0].T)


def test_factors_start_as_the_authors() -> None:
    block = OREPA(8, 8)
    starts = {"dense": 0.25, "point": 1.0, "mean": 0.25, "cosine": 0.0, "deep": 0.5, "wide": 0.5}
    assert {name: factor[0].item() for name, factor in block.factors.items()} == starts
    assert not block.deep1.any()
    assert OREPA(64, 64).dense.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)


def test_fused_it_is_one_convolution() -> None:
    block = OREPA(8, 12, 3, 2).eval()
    block.bn.running_mean.normal_()
    block.bn.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 8, 9, 10)
    before = block(x)
    for _ in range(2):
        fold_norms(nn.ModuleList([block]))
    torch.testing.assert_close(block(x), before, atol=1e-5, rtol=0)
    assert {name for name, _ in block.named_parameters()} == {"merged.weight", "merged.bias"}
