"""Axial transformer (Ho et al., 2019, arXiv:1912.12180)."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.tokens import Mlp
from models.registry import preserve, register


class _AxisBlock(nn.Module):
    """Pre-norm transformer block along the second to last axis of a tensor; the axes before it are a batch: (..., N, C) -> the same."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.qkv(self.norm1(x)).flatten(0, 1)  # (B * lines, N, 3C)
        q, k, v = tokens.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.proj(y)
        return x + self.mlp(self.norm2(x))


@register(preserve, example=(1, 4))
class AxialTransformer(nn.Module):
    """Axial transformer layers (arXiv:1912.12180, section 3): every position attends to its column, then to its row, without masks.

    Two layers' worth of a transformer for each layer, 24 C^2 weights a pixel against 9 C^2 of a 3x3 convolution. Positions have no
    embedding: the convolutions around the row tell them.

    Args:
        channels: width C of input and output.
        depth: number of layers, each a block along the columns and one along the rows.
        heads: number of heads; as many of them as divide C.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; memory grows with H * W * (H + W)
    """

    def __init__(self, channels: int, depth: int = 1, heads: int = 8) -> None:
        super().__init__()
        positive(self, depth=depth, heads=heads)
        heads = math.gcd(channels, heads)
        self.columns = nn.ModuleList(_AxisBlock(channels, heads) for _ in range(depth))
        self.rows = nn.ModuleList(_AxisBlock(channels, heads) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 2, 1)  # (B, W, H, C)
        for column, row in zip(self.columns, self.rows, strict=True):
            x = row(column(x).transpose(1, 2)).transpose(1, 2)
        return x.permute(0, 3, 2, 1)
