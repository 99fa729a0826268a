"""Dilated branches: what each pixel sees."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.layers.dilated import ASPP, C3RFEM, RFEM, BasicRFB
from tests.models.written_out import settled


def test_aspp_joins_a_point_three_dilations_and_the_mean() -> None:
    aspp = settled(ASPP(4, 6))
    x = torch.randn(2, 4, 40, 41, dtype=torch.float64)
    kernels = [(b[0].kernel_size[0], b[0].dilation[0]) for b in aspp.branches]
    assert kernels == [(1, 1), (3, 6), (3, 12), (3, 18)]
    maps = [
        b[2](b[1](F.conv2d(x, b[0].weight, padding=d if k == 3 else 0, dilation=d)))
        for b, (k, d) in zip(aspp.branches, kernels, strict=True)
    ]
    whole = aspp.pool(F.adaptive_avg_pool2d(x, 1)) * torch.ones(1, 1, 40, 41)
    torch.testing.assert_close(aspp(x), aspp.project(torch.cat([*maps, whole], 1)))


def seen(branch: nn.Module, channels: int) -> int:
    """Width of the field that one output pixel depends on."""
    x = torch.randn(1, channels, 41, 41, requires_grad=True)
    branch.eval()(x)[..., 20, 20].abs().sum().backward()
    assert x.grad is not None
    hit = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    return int(hit.max() - hit.min()) + 1


def test_rfb_branches_see_as_far_as_in_the_paper() -> None:
    block = BasicRFB(64, 32)
    for layer in block.modules():
        if isinstance(layer, nn.ReLU):
            layer.forward = lambda x: x  # type: ignore[method-assign]  # no field may hide behind a zero
    fields = [seen(b, 64) for b in (block.branch0, block.branch1, block.branch2)]
    assert fields == [3, 3 + 2 * 2, 5 + 3 * 2]
    assert [b[-2].out_channels for b in (block.branch0, block.branch1, block.branch2)] == [16, 16, 16]
    x = torch.randn(2, 64, 9, 10)
    assert BasicRFB(64, 32, 2)(x).shape == (2, 32, 5, 5)
    assert [BasicRFB(8, 8, 1, 1.0, 2).branch2[-2].dilation, BasicRFB(8, 8, 1, 1.0, 2).branch1[-2].dilation] == [(5, 5), (3, 3)]


def test_weights_of_rfb_start_as_the_authors() -> None:
    block = BasicRFB(256, 256)
    assert block.branch1[3].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
    assert block.shortcut[0].weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.03)


def test_rfem_shares_its_weights_between_dilations() -> None:
    block = settled(RFEM(6))
    x = torch.randn(2, 6, 9, 10, dtype=torch.float64)
    total = x
    for d in (1, 2, 3):
        y = F.silu(block.bn1(F.conv2d(x, block.conv1.weight)))
        y = block.bn2(F.conv2d(y, block.conv2.weight, padding=d, dilation=d))
        total = total + F.silu(y + x)
    expected = F.silu(block.bn(total))
    torch.testing.assert_close(block(x), expected)
    block.fuse()
    torch.testing.assert_close(block(x), expected)
    assert len(C3RFEM(8, 16, 3).m) == 3
