"""Outlook attention (Yuan et al., TPAMI 2023, arXiv:2106.13112)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd
from models.attention.heads import heads_for
from models.registry import preserve, register


@register(preserve, example=(2,))
class OutlookAttention(nn.Module):
    """Outlook attention of VOLO (arXiv:2106.13112, section 3.1): a pixel's weights for its k x k window come from the pixel alone.

    A linear layer gives each pixel a k^2 x k^2 matrix for each head; it mixes the values of the window, and overlapping windows add up.
    VOLO runs it at half resolution; here at full, where the k^4 weights of each pixel and head are bound by memory and take more than 2x a
    3x3 convolution's time on narrow maps. Linear layers start as truncated normal of 0.02, as the authors'.

    Args:
        channels: width C of input and output.
        heads: number of heads; None gives each 32 channels, as in the paper, or the next number that divides.
        kernel_size: side k of the window, odd.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size, or heads that do not divide the width.
    """

    def __init__(self, channels: int, heads: int | None = None, kernel_size: int = 3) -> None:
        super().__init__()
        odd(self, kernel_size=kernel_size)
        heads = heads_for(self, channels, heads)
        self.heads, self.kernel_size = heads, kernel_size
        self.v = nn.Conv2d(channels, channels, 1, bias=False)
        self.attn = nn.Conv2d(channels, heads * kernel_size**4, 1)
        self.proj = nn.Conv2d(channels, channels, 1)
        for layer in (self.v, self.attn, self.proj):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        size, taps = self.kernel_size, self.kernel_size**2
        edge = size // 2
        padded = F.pad(self.v(x), [edge] * 4)
        places = [(slice(a, a + height), slice(b, b + width)) for a in range(size) for b in range(size)]
        near = torch.stack([padded[:, :, rows, columns] for rows, columns in places], 2)  # (B, C, k^2, H, W)
        values = near.reshape(batch, self.heads, -1, taps, height * width).permute(0, 1, 4, 3, 2)  # (B, heads, N, k^2, d)
        logits = self.attn(x).reshape(batch, self.heads, taps, taps, height * width).permute(0, 1, 4, 2, 3)
        weights = (logits * (channels // self.heads) ** -0.5).softmax(4).to(values.dtype)
        mixed = (weights @ values).permute(0, 1, 4, 3, 2).reshape(batch, channels, taps, height, width)
        # Each window's outputs are added up at their places; what falls beyond the border is dropped.
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return self.proj(F.fold(mixed.flatten(3).flatten(1, 2), (height, width), size, padding=edge))
        out = torch.zeros_like(x)  # ONNX has no fold of free sizes
        for tap, (rows, columns) in enumerate(places):
            moved = F.pad(mixed[:, :, tap], [edge] * 4)
            above, left = size - 1 - rows.start, size - 1 - columns.start
            out = out + moved[:, :, above : above + height, left : left + width]
        return self.proj(out)
