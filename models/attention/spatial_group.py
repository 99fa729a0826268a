"""Spatial group-wise enhance (Li et al., 2019, arXiv:1905.09646)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.registry import preserve, register


@register(preserve, example=(2,))
class SGE(nn.Module):
    """Spatial group-wise enhance (arXiv:1905.09646, eq. 1-5): a group's positions are gated by how alike they are to its mean.

    Args:
        channels: width C of input and output.
        groups: number of groups, 64 in the paper; as many of them as divide C.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        positive(self, groups=groups)
        self.groups = math.gcd(channels, groups)
        # The gate starts at sigmoid(1), as in the authors' code.
        self.weight = nn.Parameter(torch.zeros(1, self.groups, 1, 1))
        self.bias = nn.Parameter(torch.ones(1, self.groups, 1, 1))

    def attention(self, x: Tensor) -> Tensor:
        """The gates of the groups, (B, groups, H, W)."""
        grouped = x.unflatten(1, (self.groups, -1))
        likeness = (grouped * grouped.mean((3, 4), keepdim=True)).sum(2)  # (B, groups, H, W)
        centred = likeness - likeness.mean((2, 3), keepdim=True)
        # The deviation of all positions (eq. 3), not of a sample of them, which a map of one position does not have.
        deviation = centred.square().mean((2, 3), keepdim=True).clamp(min=1e-12).sqrt()
        return (centred / (deviation + 1e-5) * self.weight + self.bias).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return (x.unflatten(1, (self.groups, -1)) * self.attention(x)[:, :, None]).flatten(1, 2)
