"""YOLO's convolutions and cross-stage-partial blocks, each against its formula in float64, written out down to convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.layers.c2f import C2f, C3k, C3k2
from models.layers.conv import Conv, CrossConv, DWConv, DWConvTranspose2d, GhostConv, MixConv2d
from models.layers.cross_stage import (
    C3C2,
    BottleneckCSP2,
    BottleneckCSPB,
    BottleneckCSPC,
    BottleneckCSPF,
    ResCSPB,
    ResCSPC,
    ResXCSPB,
    ResXCSPC,
)
from models.layers.csp import C3, C3SPP, C3TR, Bottleneck, BottleneckCSP, C3Ghost, C3x, GhostBottleneck
from models.layers.dilated import C3RFEM
from models.layers.light_blocks import C3Faster
from tests.models.written_out import Step, chain, convolved, joined, linear, maps, mish, normed, plain, pooled, settled, silu


def own(x: Tensor, block: Any) -> Tensor:
    """What the inner block computes, which has a test of its own."""
    return block(x)


def bottleneck(k: int = 1, shortcut: bool = True) -> Step:
    return lambda x, m: (x if shortcut else 0) + convolved(convolved(x, m.cv1, k), m.cv2, 3)


def residual(g: int = 1, shortcut: bool = True) -> Step:
    return lambda x, b: (x if shortcut else 0) + convolved(convolved(convolved(x, b.m[0]), b.m[1], 3, g=g), b.m[2])


def crossed(x: Tensor, m: Any) -> Tensor:
    return x + convolved(convolved(x, m.cv1, (1, 3)), m.cv2, (3, 1))


def csp(inner: Step) -> Step:
    return lambda x, b: convolved(joined(inner(convolved(x, b.cv1), b.m), convolved(x, b.cv2)), b.cv3)


def c2f(step: Step) -> Step:
    def run(x: Tensor, b: Any) -> Tensor:
        kept = list(convolved(x, b.cv1).split(b.cv2.conv.in_channels // (2 + len(b.m)), 1))
        for m in b.m:
            kept.append(step(kept[-1], m))
        return convolved(joined(*kept), b.cv2)

    return run


def ghost(x: Tensor, m: Any, act: Any = silu) -> Tensor:
    y = convolved(x, m.cv1, act=act)
    return joined(y, convolved(y, m.cv2, 5, act, g=y.shape[1]))


def ghosts(x: Tensor, m: Any) -> Tensor:
    return x + ghost(ghost(x, m.conv[0]), m.conv[2], plain)


def halving_ghosts(x: Tensor, b: Any) -> Tensor:
    y = ghost(x, b.conv[0])
    y = ghost(convolved(y, b.conv[1], 3, plain, s=2, g=y.shape[1]), b.conv[2], plain)
    return y + convolved(convolved(x, b.shortcut[0], 3, plain, s=2, g=x.shape[1]), b.shortcut[1], act=plain)


def transformer(x: Tensor, m: Any) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    tokens = tokens + tokens @ m.linear.weight.T + m.linear.bias
    for t in m.tr:
        parts = []
        weights, biases = t.ma.in_proj_weight.chunk(3), t.ma.in_proj_bias.chunk(3)
        q, k, v = (tokens @ p.weight.T @ w.T + b for p, w, b in zip((t.q, t.k, t.v), weights, biases, strict=True))
        width = q.shape[2] // 4
        for h in range(4):
            a, b, c = (z[..., h * width : (h + 1) * width] for z in (q, k, v))
            parts.append((a @ b.transpose(1, 2) / width**0.5).softmax(2) @ c)
        tokens = tokens + torch.cat(parts, 2) @ t.ma.out_proj.weight.T + t.ma.out_proj.bias
        tokens = tokens + tokens @ t.fc1.weight.T @ t.fc2.weight.T
    return tokens.transpose(1, 2).view_as(x)


def bottleneck_csp(x: Tensor, b: Any) -> Tensor:
    y = joined(linear(chain(bottleneck())(convolved(x, b.cv1), b.m), b.cv3), linear(x, b.cv2))
    return convolved(silu(normed(y, b.bn)), b.cv4)


def csp_b(inner: Step) -> Step:
    def run(x: Tensor, b: Any) -> Tensor:
        y = convolved(x, b.cv1)
        return convolved(joined(chain(inner)(y, b.m), convolved(y, b.cv2)), b.cv3)

    return run


def csp_c(inner: Step) -> Step:
    return lambda x, b: convolved(joined(convolved(chain(inner)(convolved(x, b.cv1), b.m), b.cv3), convolved(x, b.cv2)), b.cv4)


def csp_2(x: Tensor, b: Any) -> Tensor:
    y = convolved(x, b.cv1)
    return convolved(mish(normed(joined(chain(bottleneck(shortcut=False))(y, b.m), linear(y, b.cv2)), b.bn)), b.out)


def csp_f(x: Tensor, b: Any) -> Tensor:
    return convolved(silu(normed(joined(chain(bottleneck())(convolved(x, b.cv1), b.m), linear(x, b.cv2)), b.bn)), b.out)


def c3c2(x: Tensor, b: Any) -> Tensor:
    y = linear(x, b.conv)
    return convolved(joined(chain(bottleneck())(silu(normed(y, b.bn)), b.m), y), b.cv1, act=mish)


def mixed(x: Tensor, b: Any) -> Tensor:
    return silu(normed(joined(F.conv2d(x, b.m[0].weight, groups=4), F.conv2d(x, b.m[1].weight, padding=1, groups=4)), b.bn))


def transposed(x: Tensor, b: Any) -> Tensor:
    """Each pixel adds its kernel; the border of one pixel is cut off."""
    y = torch.zeros(len(x), 4, 14, 16, dtype=x.dtype)
    for i in range(6):
        for j in range(7):
            added = x[:, :, i, j, None, None] * b.weight[:, 0]  # two inputs a group, (B, 8, 4, 4)
            y[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += added.unflatten(1, (4, 2)).sum(2)
    return y[..., 1:-1, 1:-1] + b.bias[:, None, None]


FORMULAS: list[tuple[type, tuple[Any, ...], Step]] = [
    (Conv, (8, 12, 3, 2, None, 4), lambda x, b: convolved(x, b, 3, s=2, g=4)),
    (DWConv, (8, 12, 3, 2), lambda x, b: convolved(x, b, 3, s=2, g=4)),
    (DWConvTranspose2d, (8, 4, 4, 2, 1), transposed),
    (CrossConv, (8, 8, 3, 1, 1, 1.0, True), crossed),
    (GhostConv, (8, 12), ghost),
    (MixConv2d, (8, 8, (1, 3)), mixed),
    (Bottleneck, (8, 8), bottleneck()),
    (GhostBottleneck, (8, 8), ghosts),
    (GhostBottleneck, (8, 12, 3, 2), halving_ghosts),
    (C3, (8, 12, 2), csp(chain(bottleneck()))),
    (C3x, (8, 12, 2), csp(chain(crossed))),
    (C3TR, (8, 16, 2), csp(transformer)),
    (C3Ghost, (8, 16, 2), csp(chain(ghosts))),
    (C3SPP, (8, 12, (3, 5)), csp(lambda x, m: convolved(pooled(convolved(x, m.cv1), 3, 5), m.cv2))),
    (BottleneckCSP, (8, 12, 2), bottleneck_csp),
    (C2f, (8, 12, 2), c2f(bottleneck(3, shortcut=False))),
    (C2f, (8, 12, 2, True), c2f(bottleneck(3))),
    (C3k, (8, 12, 2), csp(chain(bottleneck(3)))),
    (C3k2, (8, 12, 2), c2f(bottleneck(3))),
    (C3k2, (8, 12, 2, True), c2f(csp(chain(bottleneck(3))))),
    (BottleneckCSPB, (8, 12, 2), csp_b(bottleneck(shortcut=False))),
    (ResCSPB, (8, 12, 2), csp_b(residual(shortcut=False))),
    (ResXCSPB, (8, 12, 2), csp_b(residual(4, shortcut=False))),
    (BottleneckCSPC, (8, 12, 2), csp_c(bottleneck())),
    (ResCSPC, (8, 12, 2), csp_c(residual())),
    (ResXCSPC, (8, 16, 2), csp_c(residual(8))),
    (BottleneckCSP2, (8, 12, 2), csp_2),
    (BottleneckCSPF, (8, 12, 2), csp_f),
    (C3C2, (8, 12, 2), c3c2),
    (C3RFEM, (8, 12, 2), csp(chain(own))),
    (C3Faster, (8, 16, 2), csp(chain(own))),
]


@torch.no_grad()
@pytest.mark.parametrize(("kind", "args", "formula"), FORMULAS, ids=lambda value: getattr(value, "__name__", "").strip("<>"))
def test_a_block_is_its_formula(kind: type, args: tuple[Any, ...], formula: Step) -> None:
    torch.manual_seed(0)
    block, x = settled(kind(*args)), maps(8)
    torch.testing.assert_close(block(x), formula(x, block))
