"""Concatenation, selecting one of several maps, space to depth and depth to space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.conv import Conv
from models.layers.join import join
from models.registry import LayerPlan, Row, Scale, Width, concat, only, project, register
from utils.errors import UserError


@register(concat, example=(1,), inputs=(16, 32))
class Concat(nn.Module):
    """Concatenation along one axis.

    Args:
        dimension: the axis; 1 is the channels.

    Shape:
        list of (B, C_i, H, W) -> (B, sum of C_i, H, W); a row with one source gives a tensor
    """

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        maps = [x] if isinstance(x, Tensor) else list(x)
        return join(*maps) if self.d == 1 else torch.cat(maps, self.d)


def _feature(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001
    width, index = inputs[0], row.args[0] if row.args else None
    if isinstance(width, int) or len(inputs) != 1:
        raise UserError("must read one row with several outputs, a backbone")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(width):
        raise UserError(f"picks output 0 to {len(width) - 1} of row {row.sources[0]}, not {index!r}")
    return LayerPlan(row.args, width[index])


@register(_feature, example=(1,), inputs=((16, 32),))
class Feature(nn.Module):
    """One output of a backbone.

    Args:
        index: number of the output, from 0.

    Shape:
        list of (B, C_i, H_i, W_i) -> (B, C_index, H_index, W_index)
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        return x[self.index]


def pad_to_multiple(x: Tensor, size: int) -> Tensor:
    """Pad (B, C, H, W) with zeros, right and bottom, to multiples of `size`."""
    H, W = x.shape[2:]
    return F.pad(x, (0, -W % size, 0, -H % size))


@register(project, example=(48, 3))
class Focus(nn.Module):
    """Space to depth by 2, then `Conv`: the first layer of YOLOv5 up to 5.0.

    Args:
        c1: input width.
        c2: output width.
        k, s, p, g, act: as in `Conv`.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / 2), ceil(W / 2)) at stride 1
    """

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, p: int | None = None, g: int = 1, act: bool | nn.Module | None = True
    ) -> None:
        super().__init__()
        self.conv = Conv(4 * c1, c2, k, s, p, g, act=act)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, 2)
        phases = [x[:, :, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.conv(torch.cat(phases, 1))


def _gain(row: Row) -> int:
    gain = row.args[0] if row.args else row.keywords.get("gain", 2)
    if isinstance(gain, bool) or not isinstance(gain, int) or gain < 1:
        raise UserError(f"its gain is a positive integer, not {gain!r}")
    return gain


def _contract(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001
    return LayerPlan(row.args, only(row, inputs) * _gain(row) ** 2)


def _expand(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001
    width, gain = only(row, inputs), _gain(row)
    if width % gain**2:
        raise UserError(f"its input has {width} channels, which {gain}^2 does not divide")
    return LayerPlan(row.args, width // gain**2)


@register(_contract, example=(2,))
class Contract(nn.Module):
    """Space to depth (YOLOv5).

    Args:
        gain: factor g.

    Shape:
        (B, C, H, W) -> (B, g * g * C, ceil(H / g), ceil(W / g))
    """

    def __init__(self, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        g, x = self.gain, pad_to_multiple(x, self.gain)
        B, C, H, W = x.shape
        x = x.reshape(B, C, H // g, g, W // g, g).permute(0, 3, 5, 1, 2, 4)  # (B, g, g, C, H / g, W / g)
        return x.reshape(B, g * g * C, H // g, W // g)


@register(_expand, example=(2,))
class Expand(nn.Module):
    """Depth to space (YOLOv5); the inverse of `Contract`.

    Args:
        gain: factor g.

    Shape:
        (B, C, H, W) -> (B, C / g / g, g * H, g * W)
    """

    def __init__(self, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        g = self.gain
        B, C, H, W = x.shape
        x = x.reshape(B, g, g, C // g**2, H, W).permute(0, 3, 4, 1, 5, 2)  # (B, C / g / g, H, g, W, g)
        return x.reshape(B, C // g**2, H * g, W * g)
