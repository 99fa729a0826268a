"""CSPRepResNet, PP-YOLOE's backbone and neck, a stage a row (Xu et al., arXiv:2203.16250)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models.arguments import multiple, positive
from models.attention.effective_se import EffectiveSE
from models.layers.conv import Conv
from models.layers.ppyolo import RepRes
from models.registry import LayerPlan, Row, Scale, Width, nominal_width, only, register
from utils.errors import UserError


def _pair(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """[in, out, ...]: both as they are at one size of the model; where the input is another, the output keeps the ratio."""
    if row.repeats != 1:
        raise UserError(f"a stage stands once, with all its blocks: its number must be 1, not {row.repeats}")
    width, named = only(row, inputs), nominal_width(row)
    rest = dataclasses.replace(row, args=row.args[1:])
    out = nominal_width(rest)
    if width != named:
        out = math.ceil(out * width / named / scale.divisor) * scale.divisor
    return LayerPlan((width, out, *rest.args[1:]), out)


@register(_pair, example=(3, 16, True), inputs=(3,))
class CSPResNet_CBS(nn.Sequential):  # noqa: N801  the name in YAML files
    """PP-YOLOE's stem: three 3x3, the first of stride 2, the first two of half the width (arXiv:2203.16250, section 2.2).

    Args:
        c1: input width.
        c2: output width, even; the published one, not scaled.
        large: without it the second of the three is not there.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / 2), ceil(W / 2))
    """

    def __init__(self, c1: int, c2: int, large: bool = True) -> None:
        multiple(self, 2, c2=c2)
        half = c2 // 2
        super().__init__(Conv(c1, half, 3, 2), *([Conv(half, half, 3)] if large else []), Conv(half, c2, 3))


class _Residual(RepRes):
    """`RepRes` with a shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


@register(_pair, example=(32, 48, 2, 2, "backbone"))
class CSPResNet(nn.Module):
    """A stage of CSPRepResNet, or of PP-YOLOE's neck (arXiv:2203.16250, section 2.2, figure 3).

    In the backbone a 3x3 of stride 2 to the mean of both widths, two branches of half of that, one through the blocks, and effective
    squeeze-and-excitation of both. In the neck neither the 3x3 nor the excitation, and blocks without shortcuts.

    Args:
        c1: input width.
        c2: output width, even in the neck.
        n: blocks; the row's third argument as it is, not scaled.
        s: stride, 1 or 2; 1 in the neck.
        place: "backbone" or "neck".

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: another place, or a stride that it does not have.
    """

    def __init__(self, c1: int, c2: int, n: int = 3, s: int = 2, place: Literal["backbone", "neck"] = "backbone") -> None:
        super().__init__()
        positive(self, n=n)
        neck = place == "neck"
        if place not in {"backbone", "neck"} or s not in {1, 1 if neck else 2}:
            raise ValueError(f"CSPResNet: place must be 'backbone' or 'neck', the stride 1 or, in the backbone, 2; not {place!r} and {s}")
        middle = (c1 + c2) // 2 if s == 2 else c1
        half = (c2 if neck else middle) // 2
        positive(self, width=half)
        self.down = Conv(c1, middle, 3, 2) if s == 2 else nn.Identity()
        self.conv1 = Conv(middle, half)
        self.conv2 = Conv(middle, half)
        self.blocks = nn.Sequential(*((RepRes if neck else _Residual)(half) for _ in range(n)))
        self.attn = nn.Identity() if neck else EffectiveSE(2 * half)
        self.conv3 = Conv(2 * half, c2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.conv3(self.attn(torch.cat((self.conv1(x), self.blocks(self.conv2(x))), 1)))
