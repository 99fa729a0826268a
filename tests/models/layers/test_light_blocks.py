"""Convolutions and blocks of light networks, each against its formula in float64; branches before and after merging."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.folding import fold_norms
from models.layers.conditional import CondConv, DynamicConv
from models.layers.diverse import ACBlock, DiverseBranchBlock
from models.layers.gelan import RepNCSPELAN4
from models.layers.light_blocks import C3Faster, ConvMixer, FasterBlock, MBConv, PConv, StarBlock
from models.layers.receptive import RFAConv, SPDConv
from tests.models.written_out import convolved, gelu, maps, normed, plain, settled, silu


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


@pytest.mark.parametrize(("kind", "stride"), [(CondConv, 1), (DynamicConv, 2)])
def test_each_image_has_a_kernel_of_its_own(kind: Any, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    block, x = settled(kind(4, 6, 3, stride)), maps(4)
    pooled = x.mean((2, 3))
    if kind is CondConv:
        shares = 1 / (1 + (-(pooled @ block.route.weight.T + block.route.bias)).exp())
        assert shares.shape == (2, 8)
    else:
        first, _, second = block.attend
        logits = (pooled @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
        e = (logits / 30).exp()
        shares = e / e.sum(1, keepdim=True)
        assert shares.shape == (2, 4)
    expected = [
        F.conv2d(x[i : i + 1], sum(a * w for a, w in zip(shares[i], block.weight.chunk(shares.shape[1]), strict=True)), None, stride, 1)
        for i in range(2)
    ]
    torch.testing.assert_close(block(x), silu(normed(torch.cat(expected), block.bn)))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(block(x), silu(normed(torch.cat(expected), block.bn)))


@pytest.mark.parametrize("stride", [1, 2])
def test_an_asymmetric_block_is_the_sum_of_a_square_and_two_strips(stride: int) -> None:
    block, x = settled(ACBlock(4, 6, 3, stride)), maps(4)
    total = torch.zeros(())
    for (conv, norm), padding in zip(block.parts, ((1, 1), (0, 1), (1, 0)), strict=True):
        total = total + normed(F.conv2d(x, conv.weight, stride=stride, padding=padding), norm)
    torch.testing.assert_close(block(x), silu(total))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_diverse_branch_block_is_the_sum_of_four_branches(stride: int) -> None:
    block, x = settled(DiverseBranchBlock(4, 6, 3, stride)), maps(4)
    total = normed(F.conv2d(x, block.square.weight, stride=stride, padding=1), block.square_bn)
    total = total + normed(F.conv2d(x, block.point.weight, stride=stride), block.point_bn)
    for point, border, last in (
        (block.deep_point, block.deep_border, lambda y: normed(F.conv2d(y, block.deep.weight, stride=stride), block.deep_bn)),
        (block.mean_point, block.mean_border, lambda y: normed(F.avg_pool2d(y, 3, stride), block.mean_bn)),
    ):
        # What the 1x1 and its norm make of a border of zeros is the border.
        total = total + last(normed(F.conv2d(F.pad(x, [1] * 4), point.weight), border.bn))
    torch.testing.assert_close(block(x), silu(total))


@pytest.mark.parametrize("make", [lambda: ACBlock(4, 6, 5, 2), lambda: DiverseBranchBlock(4, 6), lambda: DiverseBranchBlock(4, 4, 5, 2)])
def test_merging_leaves_one_convolution_and_changes_nothing(make: Any) -> None:
    block, x = settled(make()), maps(4)
    expected = block(x)
    fold_norms(nn.ModuleList([block]))
    torch.testing.assert_close(block(x), expected)
    assert [type(m) for m in block.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)] == [nn.Conv2d]
    fold_norms(nn.ModuleList([block]))
    torch.testing.assert_close(block(x), expected)


def test_mbconv() -> None:
    block, x = settled(MBConv(4, 4, 5)), maps(4)
    y = convolved(convolved(x, block.widen), block.depthwise, 5, g=16)
    down, _, up, _ = block.gate
    gate = (silu(y.mean((2, 3)) @ down.weight[:, :, 0, 0].T + down.bias) @ up.weight[:, :, 0, 0].T + up.bias).sigmoid()
    torch.testing.assert_close(block(x), x + convolved(y * gate[..., None, None], block.narrow, act=plain))
    assert (block.widen.conv.out_channels, down.out_channels, block.depthwise.conv.groups) == (16, 1, 16)
    assert MBConv(4, 6, 3, 2)(torch.zeros(1, 4, 5, 5)).shape == (1, 6, 3, 3)


def test_convmixer() -> None:
    block, x = settled(ConvMixer(4, 3)), maps(4)
    z = x + normed(gelu(F.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=1, groups=4)), block.bn1)
    torch.testing.assert_close(block(x), normed(gelu(F.conv2d(z, block.pointwise.weight, block.pointwise.bias)), block.bn2))


def test_a_partial_convolution_leaves_three_quarters_alone() -> None:
    block, x = settled(PConv(8)), maps(8)
    y = block(x)
    assert torch.equal(y[:, 2:], x[:, 2:])
    torch.testing.assert_close(y[:, :2], F.conv2d(x[:, :2], block.partial_conv3.weight, padding=1))


def test_fasternets_block() -> None:
    block, x = settled(FasterBlock(8)), maps(8)
    mixed = torch.cat((F.conv2d(x[:, :2], block.spatial_mixing.partial_conv3.weight, padding=1), x[:, 2:]), 1)
    first, norm, _, last = block.mlp
    torch.testing.assert_close(block(x), x + F.conv2d(normed(F.conv2d(mixed, first.weight), norm).relu(), last.weight))
    assert first.out_channels == 16
    assert [type(m) for m in C3Faster(8, 12, 3).m] == [FasterBlock] * 3


def test_a_star_block_multiplies_two_branches() -> None:
    block, x = settled(StarBlock(4)), maps(4)
    dw, norm = block.dwconv
    y = normed(F.conv2d(x, dw.weight, dw.bias, padding=3, groups=4), norm)
    star = F.conv2d(y, block.f1.weight, block.f1.bias).clamp(0, 6) * F.conv2d(y, block.f2.weight, block.f2.bias)
    g, last = block.g
    y = normed(F.conv2d(star, g.weight, g.bias), last)
    torch.testing.assert_close(block(x), x + F.conv2d(y, block.dwconv2.weight, block.dwconv2.bias, padding=3, groups=4))


@pytest.mark.parametrize("stride", [1, 2])
def test_receptive_field_attention(stride: int) -> None:
    block, x = settled(RFAConv(3, 5, 3, stride)), maps(3)
    generate, norm, _ = block.generate
    features = normed(F.conv2d(x, generate.weight, stride=stride, padding=1, groups=3), norm).relu()
    logits = F.conv2d(F.avg_pool2d(x, 3, stride, 1), block.weigh.weight, groups=3)
    B, _, h, w = logits.shape
    weighted = features.view(B, 3, 9, h, w) * logits.view(B, 3, 9, h, w).softmax(2)
    # The 3x3 of stride 3 on the spread fields is a sum over the field at each place.
    y = torch.einsum("bcthw,oct->bohw", weighted, block.conv.conv.weight.flatten(2))
    torch.testing.assert_close(block(x), silu(normed(y, block.conv.bn)))


def test_space_to_depth_skips_nothing() -> None:
    block, x = settled(SPDConv(3, 5)), maps(3, 6, 8)
    phases = torch.cat([x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)], 1)
    torch.testing.assert_close(block(x), silu(normed(F.conv2d(phases, block.conv.conv.weight, padding=1), block.conv.bn)))


def test_gelan_joins_every_branch() -> None:
    block, x = settled(RepNCSPELAN4(6, 10, 2, 8, 6)), maps(6)

    def csp(y: Tensor, part: Any) -> Tensor:
        a, b = convolved(y, part.cv1), convolved(y, part.cv2)
        for inner in part.m:
            a = a + convolved(inner.cv1(a), inner.cv2, 3)
        return convolved(torch.cat((a, b), 1), part.cv3)

    first, second = convolved(x, block.cv1).split(4, 1)
    third = convolved(csp(second, block.cv2[0]), block.cv2[1], 3)
    fourth = convolved(csp(third, block.cv3[0]), block.cv3[1], 3)
    torch.testing.assert_close(block(x), convolved(torch.cat((first, second, third, fourth), 1), block.cv4))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CondConv(4, 4, 2), "CondConv: k must be odd, not 2"),
        (lambda: DynamicConv(4, 4, temperature=0), "temperature must be above 0, not 0"),
        (lambda: ACBlock(4, 4, 4), "ACBlock: k must be odd, not 4"),
        (lambda: MBConv(4, 4, expansion=0), "expansion must be at least 1, not 0"),
        (lambda: RepNCSPELAN4(4, 8, 1, 8, 3), "second must be a multiple of 2, not 3"),
    ],
)
def test_refuses_what_it_cannot_serve(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
