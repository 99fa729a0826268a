"""Bi-level routing attention of BiFormer (Zhu et al., CVPR 2023, arXiv:2303.08810)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.attention.heads import heads_for
from models.registry import preserve, register


@register(preserve, example=(2, 3, 2))
class BiLevelRoutingAttention(nn.Module):
    """Bi-level routing attention (arXiv:2303.08810, eq. 3-8): a region's pixels attend to those of the regions most like it.

    The means of the regions' queries and keys choose; no gradient passes the choice. A depthwise convolution of the values is added.
    A region's keys and values are copied `topk` times: bound by memory, it takes some 2x a 3x3 convolution's time.

    Args:
        channels: width C of input and output.
        heads: number of heads; None gives each 32 channels, as in the paper, or the next number that divides.
        regions: number S of regions along either side.
        topk: number k of regions attended to, at most S^2.
        local: side of the depthwise convolution, odd.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; padded with zeros to whole regions inside, as in the authors' code

    Raises:
        ValueError: heads that do not divide the width, or more regions attended to than there are.
    """

    def __init__(self, channels: int, heads: int | None = None, regions: int = 7, topk: int = 4, local: int = 5) -> None:
        super().__init__()
        positive(self, regions=regions, topk=topk)
        odd(self, local=local)
        heads = heads_for(self, channels, heads)
        if topk > regions**2:
            raise ValueError(f"BiLevelRoutingAttention: topk is at most the number of regions, {regions**2}, not {topk}")
        self.heads, self.regions, self.topk = heads, regions, topk
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.lepe = nn.Conv2d(channels, channels, local, padding=local // 2, groups=channels)
        self.proj = nn.Conv2d(channels, channels, 1)

    def _split(self, x: Tensor) -> Tensor:
        """The pixels of each region: (B, C, H, W) -> (B, S^2, pixels, C)."""
        batch, channels, height, width = x.shape
        s = self.regions
        parts = x.reshape(batch, channels, s, height // s, s, width // s).permute(0, 2, 4, 3, 5, 1)
        return parts.reshape(batch, s * s, -1, channels)

    def _joined(self, parts: Tensor, height: int, width: int) -> Tensor:
        """Undo `_split`: (B, S^2, pixels, C) -> (B, C, height, width)."""
        s = self.regions
        x = parts.reshape(parts.shape[0], s, s, height // s, width // s, -1).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(parts.shape[0], -1, height, width)

    def chosen(self, q: Tensor, k: Tensor) -> Tensor:
        """The regions that each region attends to: (B, S^2, pixels, C) twice -> indices (B, S^2, topk)."""
        likeness = q.detach().mean(2) @ k.detach().mean(2).transpose(1, 2)
        return likeness.topk(self.topk, 2).indices

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        s = self.regions
        q, k, v = self.qkv(F.pad(x, (0, -width % s, 0, -height % s))).chunk(3, 1)
        padded = q.shape[2:]
        near = self.lepe(v)
        q, k, v = self._split(q), self._split(k), self._split(v)
        index = self.chosen(q, k)
        batch = torch.arange(x.shape[0], device=x.device)[:, None, None]
        k, v = (t[batch, index].flatten(2, 3) for t in (k, v))  # (B, S^2, topk * pixels, C)
        q, k, v = (t.unflatten(3, (self.heads, -1)).transpose(2, 3).flatten(0, 1) for t in (q, k, v))  # (B S^2, heads, ..., d)
        # Scaled by the whole width, as the authors do, not by that of a head.
        out = F.scaled_dot_product_attention(q, k, v, scale=x.shape[1] ** -0.5)
        out = out.transpose(1, 2).flatten(2).reshape(x.shape[0], s * s, -1, x.shape[1])
        y = self._joined(out, padded[0], padded[1]) + near
        return self.proj(y)[:, :, :height, :width]
