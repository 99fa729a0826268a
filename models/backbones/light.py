"""Blocks of light networks: ShuffleNetV2's and MobileNetV3's, of torchvision, and PicoDet's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from models.arguments import multiple, odd
from models.attention.shuffle import shuffled
from models.backbones.stage_rows import fold_torchvision
from models.layers.conv import Conv
from models.layers.hardswish import CBH, HardGate
from models.registry import LayerPlan, Row, Scale, Width, project, register
from utils.errors import UserError


def _even(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """`project` to an even width instead of a multiple of 8: the published 116 stays."""
    return project(row, inputs, dataclasses.replace(scale, divisor=2))


@register(_even, name="ShuffleNetV2_Model", example=(46, 2))
class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit: half of the channels pass by, the other half go through 1x1, depthwise 3x3 and 1x1; then both are shuffled.

    At stride 2 both halves come from all channels, the first through a depthwise 3x3 and a 1x1 (Ma et al., ECCV 2018, arXiv:1807.11164,
    figure 3c and 3d).

    Args:
        c1: input width.
        c2: output width, even.
        s: stride; at 1 both widths are equal.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: an odd width, or a change of width at stride 1.
    """

    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__()
        multiple(self, 2, c2=c2)
        from torchvision.models.shufflenetv2 import InvertedResidual

        self.unit = InvertedResidual(c1, c2, s)

    def forward(self, x: Tensor) -> Tensor:
        return self.unit(x)


def _expanded(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """`project` whose second argument is a width that is scaled, too."""
    if len(row.args) < 2 or not isinstance(row.args[1], int) or row.args[1] < 1:
        raise UserError(f"a row is [width, inner width, kernel, stride, gate, hard swish], not {list(row.args)}")
    inner = scale.channels(row.args[1])
    return project(dataclasses.replace(row, args=(row.args[0], inner, *row.args[2:])), inputs, scale)


@register(_expanded, name="mobilev3_bneck", aliases=("MobileNetV3_InvertedResidual",), example=(32, 48, 5, 1, 1, 1))
class MobileNetV3Block(nn.Module):
    """MobileNetV3's block: widen, depthwise k x k, a gate, narrow (Howard et al., ICCV 2019, arXiv:1905.02244, figure 4).

    Args:
        c1: input width.
        c2: output width.
        inner: width in the middle; in a YAML it is scaled as the output's. Without a widening, if it is the input's.
        k: kernel size, odd.
        s: stride, 1 or 2.
        se: 1 or true for squeeze and excitation with a hard sigmoid.
        hs: 1 or true for hard swish, else ReLU.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, inner: int, k: int = 3, s: int = 1, se: bool | int = False, hs: bool | int = True) -> None:
        super().__init__()
        odd(self, k=k)
        from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig

        settings = InvertedResidualConfig(c1, k, inner, c2, bool(se), "HS" if hs else "RE", s, 1, 1.0)
        settings.input_channels, settings.expanded_channels, settings.out_channels = c1, inner, c2  # it rounds them to 8
        self.unit = InvertedResidual(settings, partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01))

    def forward(self, x: Tensor) -> Tensor:
        return self.unit(x)

    def fuse(self) -> None:
        """Fold the batch norms."""
        fold_torchvision(self)


@register(project, example=(48, 2))
class ES_Bottleneck(nn.Module):  # noqa: N801  the name in YAML files
    """The block of PicoDet's enhanced ShuffleNet (Yu et al., arXiv:2111.00902, figure 2), with a gate and hard swish.

    At stride 1, half of the channels pass by; the others go through a ghost block, a 1x1 whose output is joined by a depthwise 3x3 of
    it, the gate and a 1x1; then both are shuffled. At stride 2 the branches are ShuffleNetV2's, with a gate in the second, and a
    depthwise 3x3 and a 1x1 mix them instead of the shuffle.

    Args:
        c1: input width.
        c2: output width, even.
        s: stride, 1 or 2; at 1 both widths are equal.
        ratio: inner width / c2, which the authors' search finds for each block.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: an odd width, another stride, or a change of width at stride 1.
    """

    def __init__(self, c1: int, c2: int, s: int = 1, ratio: float = 1.0) -> None:
        super().__init__()
        multiple(self, 2, c2=c2)
        if s not in {1, 2} or (s == 1 and c1 != c2):
            raise ValueError(f"ES_Bottleneck: the stride must be 1, between equal widths, or 2; not {s}, from {c1} to {c2}")
        half, inner = c2 // 2, max(int(c2 * ratio) // 2, 1)
        self.first = nn.Sequential(_depthwise(c1, 2), CBH(c1, half)) if s == 2 else None
        self.widen = CBH(half if s == 1 else c1, inner)
        self.depthwise = _depthwise(inner, s)
        gated = inner if s == 2 else 2 * inner
        self.narrow = nn.Sequential(HardGate(gated), CBH(gated, half))
        self.mix = nn.Sequential(CBH(c2, c2, 3, g=c2), CBH(c2, c2)) if s == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.first is None or self.mix is None:
            passed, x = x.chunk(2, 1)
            x = self.widen(x)
            x = self.narrow(torch.cat((x, self.depthwise(x)), 1))
            return shuffled(torch.cat((passed, x), 1), 2)
        return self.mix(torch.cat((self.first(x), self.narrow(self.depthwise(self.widen(x)))), 1))


def _depthwise(channels: int, stride: int) -> Conv:
    return Conv(channels, channels, 3, stride, g=channels, act=False)
