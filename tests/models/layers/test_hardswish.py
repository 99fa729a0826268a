"""The light blocks."""

from __future__ import annotations

import torch
from torch import nn

from models.layers.hardswish import CBH, Conv_maxpool, Dense, DepthSepConv, HardGate


def test_a_separable_convolution_is_gated_between_its_parts() -> None:
    block = DepthSepConv(8, 12, 5, 2, True).eval()
    x = torch.randn(2, 8, 9, 10)
    y = block.depthwise(x)
    torch.testing.assert_close(block(x), block.pointwise(y * block.se.gate(y.mean((2, 3), keepdim=True))))
    assert (block.depthwise.conv.groups, block.depthwise.conv.kernel_size, block.pointwise.conv.kernel_size) == (8, (5, 5), (1, 1))
    assert isinstance(DepthSepConv(8, 8).se, nn.Identity)
    assert HardGate(8).gate[0].out_channels == 2


def test_hard_swish_all_over() -> None:
    x = torch.randn(2, 4, 5, 5)
    conv = CBH(4, 6, 3).eval()
    y = conv.bn(conv.conv(x))
    torch.testing.assert_close(conv(x), y * (y + 3).clamp(0, 6) / 6)
    dense = Dense(4, 6, 1, 0.5)
    y = dense.conv(x)
    y = y * (y + 3).clamp(0, 6) / 6
    torch.testing.assert_close(dense.eval()(x), y)
    torch.manual_seed(0)
    assert 0.3 < (dense.train()(x) == 0).float().mean().item() < 0.7
    assert Conv_maxpool(4, 6)(torch.rand(2, 4, 13, 20)).shape == (2, 6, 4, 5)
