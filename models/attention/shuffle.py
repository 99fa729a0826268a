"""Shuffle attention (Zhang & Yang, ICASSP 2021, arXiv:2102.00240)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.arguments import multiple, positive
from models.layers.norm import GroupNorm
from models.registry import preserve, register


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups: (B, C, H, W) -> the same shape (Zhang et al., CVPR 2018, arXiv:1707.01083)."""
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


@register(preserve, example=(2,))
class ShuffleAttention(nn.Module):
    """Shuffle attention (arXiv:2102.00240, section 3): in each group, half of the channels are gated by their means, half by position.

    Args:
        channels: width C of input and output, even.
        groups: number G of groups, which share the parameters; as many of them as divide C / 2.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an odd width.
    """

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        multiple(self, 2, channels=channels)
        positive(self, groups=groups)
        self.groups = math.gcd(channels // 2, groups)
        width = channels // 2 // self.groups
        # Gates start at sigmoid(1), as in the authors' code.
        self.cweight = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.cbias = nn.Parameter(torch.ones(1, width, 1, 1))
        self.sweight = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.sbias = nn.Parameter(torch.ones(1, width, 1, 1))
        self.gn = GroupNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        by_channel, by_place = x.reshape(x.shape[0] * self.groups, -1, *x.shape[2:]).chunk(2, 1)
        means = by_channel.mean((2, 3), keepdim=True)
        by_channel = by_channel * (self.cweight * means + self.cbias).sigmoid()
        by_place = by_place * (self.sweight * self.gn(by_place) + self.sbias).sigmoid()
        return shuffled(torch.cat((by_channel, by_place), 1).reshape(x.shape), 2)
