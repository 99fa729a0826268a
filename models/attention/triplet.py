"""Triplet attention (Misra et al., WACV 2021, arXiv:2010.03045)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.arguments import odd
from models.layers.spatial import PooledGate
from models.registry import LayerPlan, Row, Scale, Width, preserve, register


def _rule(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """`preserve`; the [2] of YOLOAir's row cannot be the side of a kernel, and is dropped."""
    return preserve(dataclasses.replace(row, args=()) if row.args == (2,) else row, inputs, scale)


class _Gate(nn.Module):
    """Gate by the maximum and the mean over axis 1."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = PooledGate(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x)


@register(_rule, example=(3,))
class TripletAttention(nn.Module):
    """Triplet attention (arXiv:2010.03045, section 3.2): the map is transposed so that pooling runs over height, width and channels.

    Args:
        channels: width C of input and output; has no effect.
        kernel_size: side of the three gates' convolutions, odd.
        spatial: include the third gate, CBAM's spatial one.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, channels: int, kernel_size: int = 7, spatial: bool = True) -> None:  # noqa: ARG002 - every attention takes its width
        super().__init__()
        odd(self, kernel_size=kernel_size)
        self.cw = _Gate(kernel_size)
        self.hc = _Gate(kernel_size)
        self.hw = _Gate(kernel_size) if spatial else None

    def attention(self, x: Tensor) -> Tensor:
        """The mean of the gates, (B, C, H, W): output divided by input."""
        gates = [self.cw.conv(x.transpose(1, 2)).transpose(1, 2), self.hc.conv(x.transpose(1, 3)).transpose(1, 3)]
        gates += [] if self.hw is None else [self.hw.conv(x)]
        return torch.stack([gate.expand(x.shape) for gate in gates], 1).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        over_height = self.cw(x.transpose(1, 2)).transpose(1, 2)  # pooled over H, gate on (C, W)
        over_width = self.hc(x.transpose(1, 3)).transpose(1, 3)  # pooled over W, gate on (H, C)
        if self.hw is None:
            return (over_height + over_width) / 2
        return (over_height + over_width + self.hw(x)) / 3
