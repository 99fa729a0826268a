"""ConvNeXt's block, and how its weights start."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models.attention.convnext import CNeB, ConvNextBlock


def test_the_formula() -> None:
    block = ConvNextBlock(6, layer_scale=0.5).double()
    x = torch.randn(2, 6, 9, 10, dtype=torch.float64)
    y = F.conv2d(x, block.dwconv.weight, block.dwconv.bias, padding=3, groups=6)
    y = (y - y.mean(1, keepdim=True)) / (y.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    y = F.conv2d(y, block.pwconv1.weight[..., None, None], block.pwconv1.bias)
    y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
    y = F.conv2d(y, block.pwconv2.weight[..., None, None], block.pwconv2.bias)
    torch.testing.assert_close(block(x), x + 0.5 * y)


def test_weights_start_as_the_authors() -> None:
    block = ConvNextBlock(64)
    for layer in (block.dwconv, block.pwconv1, block.pwconv2):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not layer.bias.any()
    assert block.gamma is not None
    assert block.gamma.eq(1e-6).all()
    assert ConvNextBlock(8, layer_scale=0).gamma is None
    inner = CNeB(8, 64, 2).m
    assert [type(m) for m in inner] == [ConvNextBlock] * 2
    assert inner[1].pwconv1.in_features == 32
