"""Partial self-attention of YOLOv10 (Wang et al., NeurIPS 2024, arXiv:2405.14458) and of the YOLOs after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.heads import heads_for
from models.layers.conv import Conv
from models.registry import preserve, register, stack


class _Attention(nn.Module):
    """Attention over all positions, whose keys have half the values' width, with a depthwise convolution of the values added."""

    def __init__(self, channels: int, heads: int, local: int) -> None:
        super().__init__()
        self.heads = heads
        self.key_width = max(channels // heads // 2, 1)
        self.widths = [heads * self.key_width, heads * self.key_width, channels]
        self.qkv = Conv(channels, sum(self.widths), 1, act=False)
        self.pe = Conv(channels, channels, local, g=channels, act=False)
        self.proj = Conv(channels, channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split(self.widths, 1)
        near = self.pe(v)
        q, k, v = (t.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3).contiguous() for t in (q, k, v))  # (B, heads, N, d)
        y = F.scaled_dot_product_attention(q, k, v, scale=self.key_width**-0.5)
        return self.proj(y.transpose(2, 3).reshape(x.shape) + near)


@register(preserve)
class PSABlock(nn.Module):
    """Attention and a feed-forward network, each with a residual (arXiv:2405.14458, section 3.3.2); batch norms, no layer norm.

    Args:
        channels: width C of input and output.
        heads: number of heads; None gives each 64 channels, as in the paper, or the next number that divides.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; time and, for the gradient, memory grow with (H * W)^2

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, channels: int, heads: int | None = None) -> None:
        super().__init__()
        self.attn = _Attention(channels, heads_for(self, channels, heads, 64), 3)
        self.ffn = nn.Sequential(Conv(channels, 2 * channels, 1), Conv(2 * channels, channels, 1, act=False))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.ffn(x)


@register(stack, example=(48,))
class C2PSA(nn.Module):
    """Half the channels go through `n` blocks of `PSABlock`, half pass by (arXiv:2405.14458, figure 3: partial self-attention).

    Args:
        c1: input width.
        c2: output width.
        n: inner blocks.
        e: inner width as a share of c2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), any H, W >= 1
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, 2 * inner), Conv(2 * inner, c2)
        self.m = nn.Sequential(*(PSABlock(inner) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        passed, mixed = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((passed, self.m(mixed)), 1))
