"""Branches that become one convolution, against the sum that the papers write."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.folding import fold_norms
from models.layers.merged import BepC3, BottleRep, BranchedConv, MobileOne, MobileOneBlock, RepBlock, RepConv, RepVGGBlock
from models.layers.ppyolo import RepRes
from tests.models.written_out import normed, settled


@pytest.mark.parametrize(("c2", "s", "g"), [(8, 1, 1), (12, 1, 1), (8, 2, 1), (8, 1, 4)])
def test_a_repvgg_block_is_the_sum_of_its_branches(c2: int, s: int, g: int) -> None:
    block = settled(RepVGGBlock(8, c2, 3, s, g))
    x = torch.randn(2, 8, 9, 10, dtype=torch.float64)
    (dense, dense_norm), (point, point_norm) = (list(b.children()) for b in block.conv.branches)
    y = normed(F.conv2d(x, dense.weight, stride=s, padding=1, groups=g), dense_norm)
    y = y + normed(F.conv2d(x, point.weight, stride=s, groups=g), point_norm)
    if c2 == 8 and s == 1:
        y = y + normed(x, block.conv.identity)
    else:
        assert block.conv.identity is None
    torch.testing.assert_close(block(x), y.relu())


@pytest.mark.parametrize(
    "block",
    [
        RepVGGBlock(8, 8, 5),
        RepVGGBlock(8, 12, 3, 2, 4),
        RepConv(8, 8),
        RepBlock(8, 12, 3),
        BepC3(8, 12, 4),
        MobileOneBlock(8, 12, 3, 2),
        MobileOne(8, 8, 2),
        RepRes(8),
        BranchedConv(8, 8, (3, 3, 1), g=8),
    ],
    ids=lambda block: type(block).__name__,
)
def test_a_fused_block_computes_the_same_with_one_convolution_for_each_sum(block: nn.Module) -> None:
    settled(block).float()
    sums = sum(isinstance(m, BranchedConv) for m in block.modules())
    others = sum(isinstance(m, nn.Conv2d) for m in block.modules()) - sum(
        len(m.branches) for m in block.modules() if isinstance(m, BranchedConv)
    )
    x = torch.randn(2, 8, 9, 10)
    before = block(x)
    for _ in range(2):  # the second time nothing is left to do
        fold_norms(nn.ModuleList([block]))
    assert (block(x) - before).abs().max() <= 1e-5 * before.abs().max().clamp(min=1)
    assert sum(isinstance(m, nn.Conv2d) for m in block.modules()) == sums + others
    assert not any(isinstance(m, nn.BatchNorm2d) for m in block.modules())


@pytest.mark.parametrize(("widths", "parameters"), [((128, 256), 328704), ((256, 512), 1312768), ((512, 1024), 5246976)])
def test_repconv_is_as_large_as_in_yolov7(widths: tuple[int, int], parameters: int) -> None:
    """Figures that YOLOv7 prints for its layers 102 to 104."""
    with torch.device("meta"):
        assert sum(p.numel() for p in RepConv(*widths).parameters()) == parameters


def test_mobileone_has_its_branches_as_in_the_paper() -> None:
    block = settled(MobileOneBlock(8, 8, 2))
    assert [b[0].kernel_size for b in block.depthwise.branches] == [(3, 3), (3, 3), (1, 1)]
    assert [b[0].kernel_size for b in block.pointwise.branches] == [(1, 1), (1, 1)]
    assert block.depthwise.identity is not None
    assert block.pointwise.identity is not None
    assert MobileOneBlock(8, 12).pointwise.identity is None
    stage = MobileOne(8, 12, 3, 4, 2)
    assert stage(torch.rand(2, 8, 9, 9)).shape == (2, 12, 5, 5)  # one stride, though there are three blocks
    with pytest.raises(ValueError, match="deploy must be false; a model trains with the branches"):
        MobileOneBlock(8, 8, 4, 1, True)


def test_no_branch_is_a_strided_1x1() -> None:
    """The backward pass of one of an image in channels_last crashes the process (oneDNN on a CPU with AVX2)."""
    for block in (RepVGGBlock(3, 16, 3, 2), MobileOneBlock(3, 16, 2, 2)):
        strides = {m.stride for m in block.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)}
        assert strides == {(1, 1)}
        assert block(torch.rand(2, 3, 9, 7)).shape == (2, 16, 5, 4)


def test_bottlerep_weighs_its_input() -> None:
    block = BottleRep(8).eval()
    x = torch.randn(1, 8, 5, 5)
    y = block(x)
    nn.init.constant_(block.alpha, 3.0)
    torch.testing.assert_close(block(x), y + 2 * x)
    assert [len(BepC3(8, 8, n).m) for n in (1, 2, 3, 6)] == [1, 1, 1, 3]


def test_arguments_that_cannot_be_merged_are_refused() -> None:
    with pytest.raises(ValueError, match="k must be odd, not 2; 1 or 3 would fit"):
        RepVGGBlock(8, 8, 2)
    with pytest.raises(ValueError, match="c2 must be a multiple of 4, not 6"):
        RepVGGBlock(8, 6, 3, 1, 4)
