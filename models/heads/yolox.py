"""Anchor-free heads with objectness: YOLOX's and YOLOv6's first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.heads.head import Head, as_levels, cell_centres
from models.heads.tower import Tower
from models.registry import levels, register

_PRIOR = 0.01


@register(levels, example=(3,), inputs=(16, 32))
class DetectX(Head):
    """One prediction per cell: a centre relative to the cell, the logarithm of the sides in cells, objectness, classes (YOLOX).

    Args:
        channels: width of each level; the towers have the first level's.
        classes: number of classes K.

    Shape:
        list of (B, C_i, H_i, W_i) -> list of (B, 1, H_i, W_i, 5 + K)
    """

    criterion: ClassVar[str] = "objectness"

    def __init__(self, channels: Sequence[int], classes: int = 80) -> None:
        super().__init__(len(channels), classes)
        self.m = self.towers(channels)

    def towers(self, channels: Sequence[int]) -> nn.ModuleList:
        """The branches of each level."""
        return nn.ModuleList(Tower(c, channels[0], 1, self.classes) for c in channels)

    def forward(self, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
        return [tower(level).permute(0, 2, 3, 1).unsqueeze(1) for level, tower in zip(as_levels(x), self.m, strict=True)]

    def boxes(self, raw: Tensor, cells: Tensor, stride: Tensor) -> Tensor:
        """(..., 5 + K) raw predictions, (..., 2) centres of their cells in cells, pixels per cell -> (..., 4) cx, cy, w, h in pixels."""
        return torch.cat((raw[..., :2] + (cells - 0.5), raw[..., 2:4].exp()), -1) * stride

    def decode_level(self, raw: Tensor, level: int) -> Tensor:
        B, _, H, W, outputs = raw.shape
        p = raw[:, 0].float()
        boxes = self.boxes(p, cell_centres(raw, H, W), self.stride[level])
        return torch.cat((boxes, p[..., 4:].sigmoid()), 3).view(B, H * W, outputs)

    @torch.no_grad()
    def init_bias(self) -> None:
        """Initialise objectness and classes at a probability of 0.01 (YOLOX)."""
        for tower in self.m:
            assert isinstance(tower, Tower)
            for bias in tower.biases():
                bias.fill_(-math.log((1 - _PRIOR) / _PRIOR))


@register(levels, example=(3,), inputs=(16, 32))
class EffDecHead(DetectX):
    """The efficient decoupled head of YOLOv6 (Li et al., arXiv:2209.02976): as `DetectX`, with one 3x3 convolution a branch, each level
    at its own width.

    Args:
        channels: width of each level.
        classes: number of classes K.

    Shape:
        as `DetectX`
    """

    def towers(self, channels: Sequence[int]) -> nn.ModuleList:
        return nn.ModuleList(Tower(c, c, 1, self.classes, depth=1) for c in channels)
