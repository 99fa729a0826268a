"""Selective kernel convolution (Li et al., CVPR 2019, arXiv:1903.06586)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


@register(preserve, example=(3,))
class SKConv(nn.Module):
    """Selective kernel (arXiv:1903.06586, section 3.1): 3x3 convolutions of growing dilation, weighted per channel.

    Args:
        channels: width C of input and output.
        branches: number of convolutions; branch i, from 0, has dilation i + 1.
        groups: of the convolutions; reduced to gcd(C, groups).
        reduction, least: the bottleneck has max(C // reduction, least) units.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: fewer than two branches.
    """

    def __init__(self, channels: int, branches: int = 2, groups: int = 32, reduction: int = 16, least: int = 32) -> None:
        super().__init__()
        if branches < 2:
            raise ValueError(f"SKConv: branches must be at least 2, not {branches}")
        positive(self, groups=groups, reduction=reduction, least=least)
        g = math.gcd(channels, groups)
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1 + i, dilation=1 + i, groups=g, bias=False),
                PooledBatchNorm(channels),
                nn.ReLU(inplace=True),
            )
            for i in range(branches)
        )
        squeezed = max(channels // reduction, least)
        self.fc = nn.Sequential(nn.Conv2d(channels, squeezed, 1, bias=False), PooledBatchNorm(squeezed), nn.ReLU(inplace=True))
        self.fcs = nn.ModuleList(nn.Conv2d(squeezed, channels, 1) for _ in range(branches))

    def _maps_and_weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Output of each branch, (B, M, C, H, W), and its weight for each channel, (B, M, C, 1, 1)."""
        maps = torch.stack([conv(x) for conv in self.convs], 1)
        descriptor = self.fc(maps.sum(1).mean((2, 3), keepdim=True))
        return maps, torch.stack([fc(descriptor) for fc in self.fcs], 1).softmax(1)

    def attention(self, x: Tensor) -> Tensor:
        """The weights of the branch with the largest dilation, (B, C, 1, 1)."""
        return self._maps_and_weights(x)[1][:, -1]

    def forward(self, x: Tensor) -> Tensor:
        maps, weights = self._maps_and_weights(x)
        return (maps * weights.to(maps.dtype)).sum(1)
