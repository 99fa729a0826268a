"""Pools, aggregations and branches, each against its formula in float64, written out down to convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.layers.dilated import BasicRFB
from models.layers.downsample import DownC, Stem
from models.layers.elan import ELAN, WaveLAN
from models.layers.fuse import Focus
from models.layers.gsconv import GSConv, VoVGSCSP
from models.layers.hardswish import CBH, Conv_maxpool, Dense, DepthSepConv
from models.layers.merged import BepC3, MobileOne, MobileOneBlock, RepBlock, RepConv, SimConv
from models.layers.pool import SPP, SPPCSP, SPPCSPC, SPPF, SPPFCSPC, SimSPPF, SPPCSPC_group
from models.layers.ppyolo import ConvBNLayer, CoordConv, PPConvBlock, ResSPP
from tests.models.written_out import (
    Step,
    chain,
    convolved,
    gelu,
    hard_swish,
    joined,
    leaky,
    linear,
    maps,
    mish,
    normed,
    plain,
    pooled,
    relu,
    settled,
    silu,
)


def gs(x: Tensor, m: Any, k: int = 1, act: Any = silu) -> Tensor:
    y = convolved(x, m.cv1, k, act)
    y = joined(y, convolved(y, m.cv2, 5, act, g=y.shape[1]))
    return joined(y[:, ::2], y[:, 1::2])


def vov(x: Tensor, b: Any) -> Tensor:
    y = convolved(x, b.cv1)
    for m in b.m:
        y = gs(gs(y, m.conv[0]), m.conv[1], 3, plain) + convolved(y, m.shortcut, act=plain)
    return convolved(joined(convolved(x, b.cv2), y), b.cv3)


def elan(unit: Step) -> Step:
    def run(x: Tensor, b: Any) -> Tensor:
        kept = [convolved(x, b.cv1), convolved(x, b.cv2)]
        for part in b.units:
            kept.append(unit(kept[-1], part))
        return convolved(joined(*kept[::-1]), b.cv3)

    return run


def wave(x: Tensor, b: Any) -> Tensor:
    x = x + b.mixing(normed(x, b.norm1))
    return x + linear(gelu(linear(normed(x, b.norm2), b.fc1)), b.fc2)


def pyramid(x: Tensor, p: Any, g: int = 1) -> Tensor:
    for part, k in zip(p.before, (1, 3, 1), strict=True):
        x = convolved(x, part, k, g=g)
    return convolved(convolved(pooled(x, 5, 9, 13), p.after[0], g=g), p.after[1], 3, g=g)


def sppcspc(g: int = 1) -> Step:
    return lambda x, b: convolved(joined(pyramid(x, b.pyramid, g), convolved(x, b.bypass, g=g)), b.out, g=g)


def sppcsp(x: Tensor, b: Any) -> Tensor:
    return convolved(mish(normed(joined(pyramid(x, b.pyramid), linear(x, b.bypass)), b.bn)), b.out)


def gated_separable(x: Tensor, b: Any) -> Tensor:
    y = convolved(x, b.depthwise, 5, hard_swish, s=2, g=x.shape[1])
    first, _, second, _ = b.se.gate
    gate = linear(relu(linear(y.mean((2, 3), keepdim=True), first)), second)
    return convolved(y * ((gate + 3) / 6).clamp(0, 1), b.pointwise, act=hard_swish)


def down(x: Tensor, b: Any) -> Tensor:
    halved = F.max_pool2d(F.pad(x, (0, 1), value=-1e9), 2)
    return joined(convolved(convolved(x, b.cv1[0]), b.cv1[1], 3, s=2), convolved(halved, b.cv2[1]))


def stem(x: Tensor, b: Any) -> Tensor:
    y = convolved(x, b.cv1, 3, s=2)
    halved = F.max_pool2d(F.pad(y, (0, 0, 0, 1), value=-1e9), 2)
    return convolved(joined(convolved(convolved(y, b.cv2[0]), b.cv2[1], 3, s=2), halved), b.cv3)


def rfb(x: Tensor, b: Any) -> Tensor:
    zero = convolved(convolved(x, b.branch0, act=relu, s=2), b.branch0[3:], 3, plain)
    one = convolved(convolved(x, b.branch1, act=relu), b.branch1[3:], 3, relu, s=2)
    one = convolved(one, b.branch1[6:], 3, plain, d=2)
    two = convolved(convolved(x, b.branch2, act=relu), b.branch2[3:], 3, relu)
    two = convolved(convolved(two, b.branch2[6:], 3, relu, s=2), b.branch2[9:], 3, plain, d=3)
    return relu(convolved(joined(zero, one, two), b.project, act=plain) / 10 + convolved(x, b.shortcut, act=plain, s=2))


def branched(x: Tensor, part: Any, *sides: int, g: int = 1, s: int = 1) -> Tensor:
    total = 0 if part.identity is None else normed(x, part.identity)
    return total + sum(convolved(x, branch, k, plain, s, g) for branch, k in zip(part.branches, sides, strict=True))


def repvgg(x: Tensor, b: Any) -> Tensor:
    return relu(branched(x, b.conv, 3, 1))


def bepc3(x: Tensor, b: Any) -> Tensor:
    y = convolved(x, b.cv1, act=relu)
    for m in b.m:
        y = repvgg(repvgg(y, m.conv1), m.conv2) + m.alpha * y
    return convolved(joined(y, convolved(x, b.cv2, act=relu)), b.cv3, act=relu)


def mobile_one(x: Tensor, b: Any) -> Tensor:
    return relu(branched(relu(branched(x, b.depthwise, 3, 3, 1, g=x.shape[1])), b.pointwise, 1, 1))


def coord(x: Tensor, b: Any, k: int = 3) -> Tensor:
    column = torch.linspace(-1, 1, x.shape[3]).double().expand(len(x), 1, *x.shape[2:])
    row = torch.linspace(-1, 1, x.shape[2]).double()[:, None].expand(len(x), 1, *x.shape[2:])
    return convolved(joined(x, column, row), b.conv, k, leaky)


def res_spp(x: Tensor, b: Any) -> Tensor:
    def basic(y: Tensor, m: Any) -> Tensor:
        return silu(branched(convolved(y, m.conv1, 3), m.conv2, 3, 1))

    y = convolved(pooled(chain(basic)(convolved(x, b.conv), b.before), 5, 9, 13), b.merge)
    return chain(basic)(y, b.after)


FORMULAS: list[tuple[type, tuple[Any, ...], Step]] = [
    (Focus, (8, 12, 3), lambda x, b: convolved(joined(*(F.pad(x, (0, 1))[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1))), b.conv, 3)),
    (SPP, (8, 12), lambda x, b: convolved(pooled(convolved(x, b.cv1), 5, 9, 13), b.cv2)),
    (SPPF, (8, 12), lambda x, b: convolved(pooled(convolved(x, b.cv1), 5, 9, 13), b.cv2)),
    (SimSPPF, (8, 12), lambda x, b: convolved(pooled(convolved(x, b.cv1, act=relu), 5, 9, 13), b.cv2, act=relu)),
    (SPPCSPC, (8, 12), sppcspc()),
    (SPPFCSPC, (8, 12), sppcspc()),
    (SPPCSPC_group, (8, 12), sppcspc(4)),
    (SPPCSP, (8, 12), sppcsp),
    (ELAN, (8, 16), elan(lambda x, u: convolved(convolved(x, u[0], 3), u[1], 3))),
    (WaveLAN, (8, 16), elan(wave)),
    (GSConv, (8, 12, 3), lambda x, b: gs(x, b, 3)),
    (VoVGSCSP, (8, 12, 2), vov),
    (CBH, (8, 12, 3, 2, 4), lambda x, b: convolved(x, b, 3, hard_swish, s=2, g=4)),
    (Conv_maxpool, (8, 12), lambda x, b: F.max_pool2d(convolved(x, b.conv, 3, relu, s=2), 3, 2, 1)),
    (Dense, (8, 12), lambda x, b: hard_swish(linear(x, b.conv))),
    (DepthSepConv, (8, 12, 5, 2, True), gated_separable),
    (DownC, (8, 12), down),
    (Stem, (8, 12), stem),
    (BasicRFB, (8, 12, 2), rfb),
    (RepConv, (8, 12), lambda x, b: silu(branched(x, b.conv, 3, 1))),
    (RepBlock, (8, 8, 2), chain(repvgg)),
    (BepC3, (8, 12, 4), bepc3),
    (SimConv, (8, 12, 3, 2), lambda x, b: convolved(x, b, 3, relu, s=2)),
    (MobileOneBlock, (8, 8, 2), mobile_one),
    (MobileOne, (8, 8, 2, 2), chain(mobile_one)),
    (ConvBNLayer, (8, 12, 3, 2, 4), lambda x, b: convolved(x, b, 3, s=2, g=4)),
    (CoordConv, (8, 12, 3), coord),
    (PPConvBlock, (8,), lambda x, b: coord(convolved(x, b.widen, 3, leaky), b.narrow, 1)),
    (ResSPP, (8, 12, 2), res_spp),
]


@torch.no_grad()
@pytest.mark.parametrize(("kind", "args", "formula"), FORMULAS, ids=lambda value: getattr(value, "__name__", "").strip("<>"))
def test_a_block_is_its_formula(kind: type, args: tuple[Any, ...], formula: Step) -> None:
    torch.manual_seed(0)
    block, x = settled(kind(*args)), maps(8)
    torch.testing.assert_close(block(x), formula(x, block))
