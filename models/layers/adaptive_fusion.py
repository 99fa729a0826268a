"""Adaptive fusion of levels: each pixel of a level is a mean of all levels, by weights that are learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layers.conv import Conv
from models.layers.join import total


class AdaptiveFusion(nn.Module):
    """One level as the mean of several, with weights of each pixel, a softmax over the levels (Liu et al., arXiv:1911.09516, eq. 1-3).

    Args:
        level: index of the one to fuse to.
        resize: for each level what brings it to the width of that one.
        width: of that level.
        compressed: width of what the weights of a level are computed from.

    Shape:
        list of (B, C_i, H_i, W_i) -> (B, width, H_level, W_level)
    """

    def __init__(self, level: int, resize: Sequence[nn.Module], width: int, compressed: int) -> None:
        super().__init__()
        self.level, self.resize = level, nn.ModuleList(resize)
        self.weights = nn.ModuleList(Conv(width, compressed) for _ in resize)
        self.weight_levels = nn.Conv2d(compressed * len(resize), len(resize), 1)
        self.expand = Conv(width, width, 3)

    def resized(self, x: Sequence[Tensor]) -> list[Tensor]:
        """All levels with the width and the size of the one to fuse to."""
        raise NotImplementedError

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        same = self.resized(x)
        logits = self.weight_levels(torch.cat([conv(y) for y, conv in zip(same, self.weights, strict=True)], 1))
        shares = logits.softmax(1).split(1, 1)
        return self.expand(total(y * share for y, share in zip(same, shares, strict=True)))
