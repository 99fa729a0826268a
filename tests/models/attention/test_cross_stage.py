"""Cross-stage-partial and residual blocks around attention, which has tests of its own, each against its formula in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention.bot import BottleneckTransformer, BottleStack, C3BoT
from models.attention.cat import C3CAT
from models.attention.convnext import CNeB
from models.attention.cot import C3CoT, CoTBottleneck, CoXt
from models.attention.gnconv import C3Hor
from models.attention.swin import C3Swin, C3SwinV2
from tests.models.written_out import Step, chain, convolved, joined, maps, normed, plain, relu, settled, silu

pytestmark = pytest.mark.usefixtures("no_gradients")


def attended(x: Tensor, m: Any) -> Tensor:
    return x + silu(normed(m.mhsa(convolved(x, m.cv1)), m.bn))


def contextual(x: Tensor, m: Any) -> Tensor:
    return x + m.cot(convolved(x, m.cv1))


def csp(inner: Step) -> Step:
    return lambda x, b: convolved(joined(inner(convolved(x, b.cv1), b.m), convolved(x, b.cv2)), b.cv3)


@pytest.mark.parametrize(
    ("kind", "inner"),
    [
        *((kind, lambda x, m: m(x)) for kind in (C3CAT, CNeB, C3Hor, C3Swin, C3SwinV2)),
        (C3BoT, attended),
        (C3CoT, contextual),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_c3_with_attention_inside(kind: Any, inner: Step) -> None:
    block, x = settled(kind(8, 16, 2)), maps(8)
    assert len(block.m) == 2
    torch.testing.assert_close(block(x), csp(chain(inner))(x, block))


@pytest.mark.parametrize(("stride", "grouped"), [(1, False), (2, True)])
def test_a_bottleneck_of_cotnet(stride: int, grouped: bool) -> None:
    block, x = settled(CoTBottleneck(8, 32, stride, grouped)), maps(8, 6, 8)
    assert isinstance(block.conv2, CoXt) == grouped
    y = convolved(x, [block.conv1, block.bn1], act=relu)
    if stride == 2:
        padded = F.pad(y, (1, 1, 1, 1))
        y = sum(padded[:, :, i : i + 6 : 2, j : j + 8 : 2] for i in range(3) for j in range(3)) / 9
    y = convolved(block.conv2(y), [block.conv3, block.bn3], act=plain)
    torch.testing.assert_close(block(x), relu(y + convolved(x, block.downsample, act=plain, s=stride)))


def test_coxt_is_cot_in_two_groups() -> None:
    block, x = settled(CoXt(32)), maps(32, 4, 5, 1)
    static = convolved(x, block.key_embed, 3, relu, g=8)
    # Query and key of a channel side by side: a group of both convolutions sees the matching halves of the two.
    both = torch.stack((x, static), 2).flatten(1, 2)
    hidden = convolved(both, block.embed, act=relu, g=2)
    weights = F.conv2d(hidden, block.embed[3].weight, block.embed[3].bias, groups=2)
    values = convolved(x, block.conv1x1, act=plain, g=2)
    out = torch.zeros_like(values)
    for group in (0, 1):
        own = weights[0].chunk(2)[group].unflatten(0, (-1, 9))
        own = (own - own.mean((1, 2, 3), keepdim=True)) / (own.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        for c in range(16):
            near = F.unfold(values[:, 16 * group + c, None], 3, padding=1)[0].unflatten(1, (4, 5))
            out[0, 16 * group + c] = (near * own[c % len(own)]).sum(0)
    dynamic = silu(normed(out, block.bn))
    torch.testing.assert_close(block(x), block.fused(dynamic, static))


@pytest.mark.parametrize("downsample", [False, True])
def test_a_bottleneck_transformer(downsample: bool) -> None:
    block, x = settled(BottleneckTransformer(8, 16, (5, 7), 4, downsample, 2, 4)), maps(8, 5, 7)
    widen, attention, narrow = block.net[:2], block.net[3], block.net[7:]
    y = attention(convolved(x, widen, act=relu))
    if downsample:  # the mean of those of four pixels that there are
        counts = F.pad(torch.ones(1, 1, 5, 7).double(), (0, 1, 0, 1))
        sums = [F.pad(t, (0, 1, 0, 1)).unflatten(3, (4, 2)).unflatten(2, (3, 2)).sum((3, 5)) for t in (y, counts[..., :5, :7])]
        y = sums[0] / sums[1]
    y = convolved(relu(normed(y, block.net[5])), narrow, act=plain)
    torch.testing.assert_close(block(x), relu(y + convolved(x, block.shortcut, act=relu, s=2 if downsample else 1)))
    stack = settled(BottleStack(8, 16, (5, 7), 4, 2, downsample, 2, 4))
    torch.testing.assert_close(stack(x), stack.net[1](stack.net[0](x)))
