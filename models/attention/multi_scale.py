"""Efficient multi-scale attention (Ouyang et al., ICASSP 2023, arXiv:2305.13563)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.layers.norm import GroupNorm
from models.registry import preserve, register


@register(preserve, example=(2,))
class EMA(nn.Module):
    """Efficient multi-scale attention (arXiv:2305.13563, section 2): gates along rows and columns, and a 3x3 convolution, weigh each other.

    Channels fall into groups that share all weights. Each branch's means, through a softmax over the channels, sum the other branch
    to a map; the two maps' sum gates the group.

    Args:
        channels: width C of input and output.
        groups: number of groups; as many of them as divide C.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        positive(self, groups=groups)
        self.groups = math.gcd(channels, groups)
        width = channels // self.groups
        self.gn = GroupNorm(width, width)
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1)

    def _gates(self, x: Tensor) -> Tensor:
        """The gate of each group: (B * groups, C / groups, H, W) -> (B * groups, 1, H, W)."""
        height = x.shape[2]
        joint = self.conv1x1(torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2))
        rows, columns = joint[:, :, :height].sigmoid(), joint[:, :, height:].sigmoid().transpose(2, 3)
        gated, local = self.gn(x * rows * columns), self.conv3x3(x)
        maps = self._crossed(gated, local) + self._crossed(local, gated)
        return maps.sigmoid().unflatten(2, x.shape[2:])

    def _crossed(self, one: Tensor, other: Tensor) -> Tensor:
        """Sum the channels of `other` with the softmax of the means of `one`: (B, 1, H * W)."""
        weights = one.mean((2, 3)).softmax(1)[:, None].to(other.dtype)
        return weights @ other.flatten(2)

    def attention(self, x: Tensor) -> Tensor:
        """The gates of the groups, (B, groups, H, W)."""
        gates = self._gates(x.reshape(x.shape[0] * self.groups, -1, *x.shape[2:]))
        return gates.reshape(x.shape[0], self.groups, *x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0] * self.groups, -1, *x.shape[2:])
        return (grouped * self._gates(grouped)).reshape(x.shape)
