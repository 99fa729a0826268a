"""Pyramid split attention (Zhang et al., ACCV 2022, arXiv:2105.14447)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.arguments import multiple, positive
from models.attention.se import SE
from models.registry import preserve, register


@register(preserve, example=(2,))
class PyramidSplitAttention(nn.Module):
    """Pyramid split attention of EPSANet (arXiv:2105.14447, section 3.2): kernels of 3, 5, 7 and 9 side by side, weighed by their SE.

    Each kernel gives a quarter of the channels; one SE, shared, describes each quarter, and a softmax over the four weighs them. It
    multiplies less often than a 3x3 convolution; CPUs have slow kernels for groups and large sides, and take more than 2x its time.

    Args:
        channels: width C of input and output, a multiple of 4.
        reduction: of the SE, whose bottleneck has C / 4 / reduction units, at least one.
        groups: of the four convolutions, growing with the kernel as in the paper; as many of them as divide C / 4.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: a width that is no multiple of 4.
    """

    def __init__(self, channels: int, reduction: int = 16, groups: tuple[int, int, int, int] = (1, 4, 8, 16)) -> None:
        super().__init__()
        multiple(self, 4, channels=channels)
        positive(self, reduction=reduction, groups=min(groups))
        quarter = channels // 4
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, quarter, k, padding=k // 2, groups=math.gcd(quarter, g), bias=False)
            for k, g in zip((3, 5, 7, 9), groups, strict=True)
        )
        self.se = SE(quarter, reduction, bias=True)

    def _maps_and_shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of the kernels, (B, 4, C / 4, H, W), and their shares, (B, 4, C / 4, 1, 1)."""
        maps = [conv(x) for conv in self.convs]
        return torch.stack(maps, 1), torch.stack([self.se.attention(m) for m in maps], 1).softmax(1)

    def attention(self, x: Tensor) -> Tensor:
        """The share of the largest kernel, (B, C / 4, 1, 1)."""
        return self._maps_and_shares(x)[1][:, -1]

    def forward(self, x: Tensor) -> Tensor:
        maps, share = self._maps_and_shares(x)
        return (maps * share.to(maps.dtype)).flatten(1, 2)
