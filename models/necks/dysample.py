"""DySample: upsampling by sampling at learned points (Liu et al., ICCV 2023, arXiv:2308.15085)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.registry import preserve, register


@register(preserve, example=(2, 3))
class DySample(nn.Module):
    """DySample of the style LP, with a static scope (arXiv:2308.15085, eq. 1-4): each output pixel is sampled near its own place.

    A 1x1 gives each of scale^2 output pixels of an input pixel, in each group of channels, an offset in input pixels, times 0.25. It starts
    almost as bilinear upsampling.

    Args:
        channels: width C of input and output.
        scale: factor of height and width.
        groups: of channels that are sampled at points of their own; as many of them as divide C.

    Shape:
        (B, C, H, W) -> (B, C, scale * H, scale * W)
    """

    start: Tensor

    def __init__(self, channels: int, scale: int = 2, groups: int = 4) -> None:
        super().__init__()
        positive(self, scale=scale, groups=groups)
        self.scale, self.groups = scale, math.gcd(channels, groups)
        self.offset = nn.Conv2d(channels, 2 * self.groups * scale * scale, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        place = (torch.arange(scale) - (scale - 1) / 2) / scale
        x, y = place.repeat(scale), place.repeat_interleave(scale)
        self.register_buffer("start", torch.stack((x, y))[:, None], persistent=False)  # (2, 1, scale^2)

    def points(self, x: Tensor) -> Tensor:
        """Where the output is sampled, (B * groups, scale * H, scale * W, 2) as (x, y), -1 to 1 on the map."""
        B, _, H, W = x.shape
        moves = self.offset(x).reshape(B, 2, self.groups, self.scale**2, H, W).float() * 0.25 + self.start[..., None, None]
        across, down = (torch.arange(n, device=x.device) + 0.5 for n in (W, H))
        x_, y = (across + moves[:, 0]) * 2 / W - 1, (down[:, None] + moves[:, 1]) * 2 / H - 1
        places = torch.stack((x_, y), 1)  # (B, 2, groups, s^2, H, W)
        spread = F.pixel_shuffle(places.reshape(-1, self.scale**2, H, W), self.scale)
        return spread.reshape(B, 2, self.groups, self.scale * H, self.scale * W).permute(0, 2, 3, 4, 1).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        grouped = x.reshape(B * self.groups, -1, H, W)
        points = self.points(x).to(grouped.dtype)
        y = F.grid_sample(grouped, points, mode="bilinear", padding_mode="border", align_corners=False)
        return y.reshape(B, C, H * self.scale, W * self.scale)
