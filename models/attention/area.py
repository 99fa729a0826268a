"""Area attention of YOLOv12 (Tian et al., NeurIPS 2025, arXiv:2502.12524)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.heads import heads_for
from models.layers.conv import Conv
from models.registry import preserve, register, stack


class _AreaAttention(nn.Module):
    """Attention inside each of a few strips of whole rows, with a depthwise 7x7 convolution of the values added."""

    def __init__(self, channels: int, heads: int, areas: int) -> None:
        super().__init__()
        self.heads, self.areas = heads, areas
        self.qkv = Conv(channels, 3 * channels, 1, act=False)
        self.pe = Conv(channels, channels, 7, g=channels, act=False)
        self.proj = Conv(channels, channels, 1, act=False)

    def _split(self, x: Tensor) -> Tensor:
        """The tokens of each area: (B, C, H, W) -> (B * areas, heads, N, d); H is a multiple of the areas."""
        batch, channels, height, width = x.shape
        a, h = self.areas, self.heads
        parts = x.reshape(batch, h, channels // h, a, height // a * width).permute(0, 3, 1, 4, 2)
        return parts.reshape(batch * a, h, -1, channels // h)

    def _mask(self, height: int, rows: int, width: int, device: torch.device) -> Tensor:
        """0 for the keys of each area, very low beyond the map: (areas, rows / areas * width)."""
        beyond = (torch.arange(rows, device=device) >= height).float() * -1e4
        return beyond[:, None].expand(rows, width).reshape(self.areas, -1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        q, k, v = self.qkv(x).chunk(3, 1)
        near = self.pe(v)
        q, k, v = (self._split(F.pad(t, (0, 0, 0, -height % self.areas))) for t in (q, k, v))
        rows = height + -height % self.areas
        mask = self._mask(height, rows, width, x.device).repeat(batch, 1)[:, None, None].to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = y.reshape(batch, self.areas, self.heads, -1, channels // self.heads).permute(0, 2, 4, 1, 3)
        y = y.reshape(batch, channels, rows, width)[:, :, :height]
        return self.proj(y + near)


@register(preserve, example=(2, 2))
class AreaAttentionBlock(nn.Module):
    """Area attention and a feed-forward network, each with a residual (arXiv:2502.12524, section 3.2): attention in strips of rows.

    As many weights a pixel as a 3x3 convolution, a depthwise 7x7 and the N^2 / areas logits of each head: above 2x its time.

    Args:
        channels: width C of input and output.
        areas: number of strips; 1 attends over the whole map.
        heads: number of heads; None gives each 32 channels, as in the paper, or the next number that divides.
        ratio: width of the feed-forward network over C; 1.2 in the larger models of the paper, 2 in the smaller.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; time and, for the gradient, memory grow with (H * W)^2 / areas

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, channels: int, areas: int = 4, heads: int | None = None, ratio: float = 2.0) -> None:
        super().__init__()
        positive(self, areas=areas)
        heads = heads_for(self, channels, heads)
        hidden = max(int(channels * ratio), 1)
        self.attn = _AreaAttention(channels, heads, areas)
        self.mlp = nn.Sequential(Conv(channels, hidden, 1), Conv(hidden, channels, 1, act=False))
        # The authors' start: truncated normal of 0.02.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


@register(stack, example=(32, 2))
class A2C2f(nn.Module):
    """Residual ELAN of area attention, R-ELAN (arXiv:2502.12524, section 3.3): every pair of blocks' output is kept and joined.

    Where the width is kept, the input is added, and what is added to it scaled by a learned factor for each channel that starts at 0.01.

    Its two area attention blocks at half the width, with the logits of each head, take it above 2x a 3x3 convolution's time.

    Args:
        c1: input width.
        c2: output width.
        n: pairs of `AreaAttentionBlock`.
        areas, ratio: as in the block.
        e: inner width as a share of c2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), any H, W >= 1
    """

    def __init__(self, c1: int, c2: int, n: int = 1, areas: int = 4, ratio: float = 2.0, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        self.cv1, self.cv2 = Conv(c1, inner), Conv((1 + n) * inner, c2)
        self.m = nn.ModuleList(nn.Sequential(*(AreaAttentionBlock(inner, areas, None, ratio) for _ in range(2))) for _ in range(n))
        self.gamma = nn.Parameter(torch.full((c2,), 0.01)) if c1 == c2 else None

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.cv1(x)]
        for pair in self.m:
            maps.append(pair(maps[-1]))
        y = self.cv2(torch.cat(maps, 1))
        return y if self.gamma is None else x + self.gamma.view(-1, 1, 1) * y
