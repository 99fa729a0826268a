"""Deformable attention (Xia et al., CVPR 2022, arXiv:2201.00520)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.attention.heads import heads_for
from models.attention.position import pair
from models.layers.norm import ChannelNorm
from models.registry import preserve, register


def _places(length: int, device: torch.device) -> Tensor:
    """Positions of an axis as `grid_sample` counts them with aligned corners, -1 to 1; a single one lies at -1."""
    index = torch.arange(length, device=device)
    return index * (2 / index[-1].clamp(min=1)) - 1


@register(preserve, example=(2, 2, 2, 3))
class DeformableAttention(nn.Module):
    """Deformable attention (arXiv:2201.00520, eq. 4-8): queries move a coarse grid of points; keys and values are sampled there.

    Each group of channels moves the points by itself. The position bias is sampled, too, at the distance of query and point, from a
    table that holds for every size of the map. Sampling and the N x N / stride^2 logits take more than 2x a 3x3 convolution's time on
    large maps.

    Args:
        channels: width C of input and output.
        heads: number of heads; None gives each 32 channels, as in the paper, or the next number that divides.
        groups: of the points, at most one a head; None is half of the heads; as many of them as divide the heads.
        stride: pixels between the points before they move.
        kernel_size: of the depthwise convolution that moves them, odd.
        reach: how far they move at most, in their own distances.
        fmap_size: native (height, width) of the position bias, or the side of a square.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the width, or an even kernel size.
    """

    def __init__(
        self,
        channels: int,
        heads: int | None = None,
        groups: int | None = None,
        stride: int = 2,
        kernel_size: int = 5,
        reach: float = 2.0,
        fmap_size: tuple[int, int] | int = (20, 20),
    ) -> None:
        super().__init__()
        positive(self, groups=groups, stride=stride)
        odd(self, kernel_size=kernel_size)
        heads = heads_for(self, channels, heads)
        self.heads, self.reach = heads, reach
        self.groups = math.gcd(heads, max(heads // 2, 1) if groups is None else groups)
        part = channels // self.groups
        self.conv_offset = nn.Sequential(
            nn.Conv2d(part, part, kernel_size, stride, kernel_size // 2, groups=part),
            ChannelNorm(part, eps=1e-5),
            nn.GELU(),
            nn.Conv2d(part, 2, 1, bias=False),
        )
        self.proj_q, self.proj_k, self.proj_v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        height, width = pair(fmap_size)
        self.rpe_table = nn.Parameter(torch.zeros(heads, 2 * height - 1, 2 * width - 1))
        nn.init.trunc_normal_(self.rpe_table, std=0.01)

    def points(self, q: Tensor) -> Tensor:
        """Where keys and values are sampled: (B, C, H, W) -> (B * groups, rows, columns, 2) as (y, x), -1 to 1 on the map."""
        grouped = q.reshape(q.shape[0] * self.groups, -1, *q.shape[2:])
        moves = self.conv_offset(grouped).permute(0, 2, 3, 1).tanh()
        rows, columns = (torch.arange(n, device=q.device) for n in moves.shape[1:3])
        # A point starts half a distance inside its cell, as in the authors' code, and moves by `reach` of its distances.
        y, x = (((t + 0.5) * 2 / t[-1].clamp(min=1) - 1) for t in (rows, columns))
        start = torch.stack((y[:, None].expand(*moves.shape[1:3]), x.expand(*moves.shape[1:3])), 2)
        distance = torch.stack((1 / rows[-1].clamp(min=1), 1 / columns[-1].clamp(min=1)))
        return start.to(q.dtype) + moves * distance.to(q.dtype) * self.reach

    def _bias(self, points: Tensor, height: int, width: int) -> Tensor:
        """The position bias: (B * groups, rows, columns, 2) -> (B * groups, heads / groups, H * W, points)."""
        rows, columns = _places(height, points.device), _places(width, points.device)
        queries = torch.stack((rows[:, None].expand(height, width), columns.expand(height, width)), 2).to(points.dtype)
        apart = (queries.reshape(1, -1, 1, 2) - points.flatten(1, 2)[:, None]) * 0.5  # (B * groups, H * W, points, 2)
        table = self.rpe_table.unflatten(0, (self.groups, -1)).repeat(points.shape[0] // self.groups, 1, 1, 1).to(points.dtype)
        return F.grid_sample(table, apart.flip(3), mode="bilinear", align_corners=True)

    def _headed(self, x: Tensor) -> Tensor:
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)  # (B, heads, N, d)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        q = self.proj_q(x)
        points = self.points(q)
        grouped = x.reshape(batch * self.groups, -1, height, width)
        sampled = F.grid_sample(grouped, points.flip(3).to(grouped.dtype), mode="bilinear", align_corners=True)
        sampled = sampled.reshape(batch, channels, *points.shape[1:3])
        bias = self._bias(points, height, width).reshape(batch, self.heads, height * width, -1)
        q, k, v = self._headed(q), self._headed(self.proj_k(sampled)), self._headed(self.proj_v(sampled))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj_out(y.transpose(2, 3).reshape(x.shape))
