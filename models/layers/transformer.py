"""The transformer inside C3TR."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.conv import Conv


class TransformerLayer(nn.Module):
    """Self-attention and a linear two-layer perceptron, each with a residual, without layer norms (YOLOv5).

    Args:
        channels: width C.
        heads: attention heads; as many of them as divide C.

    Shape:
        (B, N, C) -> (B, N, C), any N >= 1
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(channels, channels, bias=False)
        self.v = nn.Linear(channels, channels, bias=False)
        self.ma = nn.MultiheadAttention(channels, math.gcd(channels, heads))
        self.fc1 = nn.Linear(channels, channels, bias=False)
        self.fc2 = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.q(x), self.k(x), self.v(x))
        return x + self.fc2(self.fc1(x))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What ``self.ma`` computes, without its weights output: that one would hold N x N numbers, and it does not export."""
        B, N, C = q.shape
        heads = self.ma.num_heads
        projections = zip((q, k, v), self.ma.in_proj_weight.chunk(3), self.ma.in_proj_bias.chunk(3), strict=True)
        query, key, value = (F.linear(t, weight, bias).view(B, N, heads, C // heads).transpose(1, 2) for t, weight, bias in projections)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (B, heads, N, C / heads)
        return self.ma.out_proj(mixed.transpose(1, 2).reshape(B, N, C))


class TransformerBlock(nn.Module):
    """Transformer layers over the pixels of a map, with a learned linear position term (YOLOv5).

    Args:
        c1: input width.
        c2: output width.
        heads: attention heads.
        layers: number of layers.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, heads: int, layers: int) -> None:
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, heads) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            x = self.conv(x)
        B, C, H, W = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (B, H * W, C)
        return self.tr(tokens + self.linear(tokens)).transpose(1, 2).reshape(B, C, H, W)
