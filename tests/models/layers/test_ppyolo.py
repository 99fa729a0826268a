"""PP-YOLO's blocks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models.layers.ppyolo import ConvBNLayer, CoordConv, DropBlock, PPConvBlock, RepRes, ResSPP, coordinates


def test_coordinates_run_from_minus_one_to_one() -> None:
    maps = coordinates(torch.zeros(2, 3, 3, 5))
    assert maps.shape == (2, 2, 3, 5)
    assert maps[1, 0, 2].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert maps[1, 1, :, 4].tolist() == [-1, 0, 1]
    assert coordinates(torch.zeros(1, 1, 1, 1)).isfinite().all()


def test_coordconv_reads_the_coordinates_too() -> None:
    conv = CoordConv(3, 8, 3, 1).eval()
    assert conv.conv.conv.in_channels == 5
    assert conv(torch.zeros(1, 3, 5, 6)).std((2, 3)).min() > 0  # where a plain convolution gives the same all over


def test_dropblock_zeroes_blocks_and_keeps_the_sum() -> None:
    torch.manual_seed(0)
    drop = DropBlock(3, 0.1)
    x = torch.ones(4, 8, 60, 60)
    y = drop(x)
    dropped = (y == 0).float()
    assert 0.07 < float(dropped.mean()) < 0.11
    assert float(y.mean()) == pytest.approx(1, abs=1e-5)
    blocks = (F.avg_pool2d(dropped, 3, 1) > 0.99).float()
    assert torch.equal(F.max_pool2d(F.pad(blocks, (2, 2, 2, 2)), 3, 1), dropped)  # each zero lies in a block of 3x3 zeros
    assert torch.equal(drop.eval()(x), x)
    assert drop.train()(torch.ones(1, 1, 1, 1)).isfinite().all()


def test_ppconvblock_widens_drops_and_narrows() -> None:
    block = PPConvBlock(8, True, False)
    assert isinstance(block.drop, DropBlock)
    assert isinstance(PPConvBlock(8).narrow, CoordConv)
    assert block.widen.conv.out_channels == 16


@pytest.mark.parametrize(("n", "before"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_the_pools_follow_the_middle_block(n: int, before: int) -> None:
    block = ResSPP(8, 12, n)
    assert (len(block.before), len(block.after)) == (before, n - before)
    assert block(torch.rand(2, 8, 5, 6)).shape == (2, 12, 5, 6)
    assert isinstance(block.before[0], RepRes)
    assert block.before[0].conv2.identity is None


def test_the_arguments_of_convbnlayer_are_in_pp_yoloes_order() -> None:
    conv = ConvBNLayer(8, 12, 3, 2, 4, 1).conv
    assert (conv.kernel_size, conv.stride, conv.groups, conv.padding) == ((3, 3), (2, 2), 4, (1, 1))
