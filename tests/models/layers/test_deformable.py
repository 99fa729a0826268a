"""Deformable convolution against torchvision's operator."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import deform_conv2d

from models.layers.deformable import DCNv2, deformable_conv
from tests.models.written_out import maps, normed, settled, silu


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 2), (5, 1), (1, 2)])
def test_it_computes_what_torchvision_does(k: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, k).double()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True)
    h, w = -(-9 // stride), -(-8 // stride)
    offsets = (2 * torch.randn(2, 2 * k * k, h, w, dtype=torch.float64)).requires_grad_()
    modulation = torch.rand(2, k * k, h, w, dtype=torch.float64, requires_grad=True)
    found = deformable_conv(x, conv, offsets, modulation, stride)
    expected = deform_conv2d(x, offsets, conv.weight, conv.bias, (stride, stride), (k // 2, k // 2), mask=modulation)
    torch.testing.assert_close(found, expected)
    given = (x, offsets, modulation, conv.weight)
    for a, b in zip(torch.autograd.grad(found.square().sum(), given), torch.autograd.grad(expected.square().sum(), given), strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_it_starts_as_half_a_convolution() -> None:
    block = settled(DCNv2(4, 6, 3, 2))
    x = maps(4, 7, 7)
    plain = nn.functional.conv2d(x, block.conv.weight, stride=2, padding=1) / 2
    torch.testing.assert_close(block(x), silu(normed(plain, block.bn)))
    nn.init.normal_(block.conv_offset.weight, std=0.3)
    moves = block.conv_offset(x)
    moved = deform_conv2d(x, moves[:, :18], block.conv.weight, None, 2, 1, mask=moves[:, 18:].sigmoid())
    torch.testing.assert_close(block(x), silu(normed(moved, block.bn)))


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="DCNv2: k must be odd, not 4"):
        DCNv2(4, 4, 4)
