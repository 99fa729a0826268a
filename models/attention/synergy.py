"""Spatial and channel synergistic attention (Si et al., Neurocomputing 2025, arXiv:2407.05128)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import multiple, odd, positive
from models.layers.norm import GroupNorm
from models.registry import preserve, register


@register(preserve, example=(2, 3))
class SCSA(nn.Module):
    """Spatial and channel synergistic attention (arXiv:2407.05128, section 3): strips of four lengths, then attention among channels.

    Quarters of the means of rows and columns pass 1-D convolutions of 3, 5, 7 and 9 pixels, which both directions share, and gate the
    map; the channels of the gated map, averaged over windows, attend to each other in heads, and the mean gates the channels.

    Args:
        channels: width C of input and output, a multiple of 4.
        heads: of the channels' attention; as many of them as divide C.
        window_size: side of the windows that are averaged before it; the border's are smaller, where the authors' code drops them.
        kernels: lengths of the four 1-D convolutions, odd.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: a width that is no multiple of 4.
    """

    def __init__(self, channels: int, heads: int = 8, window_size: int = 7, kernels: tuple[int, int, int, int] = (3, 5, 7, 9)) -> None:
        super().__init__()
        multiple(self, 4, channels=channels)
        positive(self, heads=heads, window_size=window_size)
        for kernel in kernels:
            odd(self, kernels=kernel)
        self.heads, self.window_size = math.gcd(channels, heads), window_size
        quarter = channels // 4
        self.strips = nn.ModuleList(nn.Conv1d(quarter, quarter, k, padding=k // 2, groups=quarter) for k in kernels)
        self.norm_h, self.norm_w = GroupNorm(4, channels), GroupNorm(4, channels)
        self.norm = GroupNorm(1, channels)
        self.q, self.k, self.v = (nn.Conv2d(channels, channels, 1, groups=channels, bias=False) for _ in range(3))

    def _line(self, means: Tensor, norm: nn.Module) -> Tensor:
        parts = [strip(part) for strip, part in zip(self.strips, means.chunk(4, 1), strict=True)]
        return norm(torch.cat(parts, 1)).sigmoid()

    def _by_place(self, x: Tensor) -> Tensor:
        return self._line(x.mean(3), self.norm_h)[..., None] * self._line(x.mean(2), self.norm_w)[:, :, None]

    def _by_channel(self, x: Tensor) -> Tensor:
        y = self.norm(F.avg_pool2d(x, self.window_size, ceil_mode=True, count_include_pad=False))
        q, k, v = (conv(y).flatten(2).unflatten(1, (self.heads, -1)) for conv in (self.q, self.k, self.v))  # (B, heads, d, N)
        # Scaled by the width of a head, not by the number of positions, as the authors do.
        mixed = F.scaled_dot_product_attention(q, k, v, scale=q.shape[2] ** -0.5)
        return mixed.mean(3).flatten(1).sigmoid()[:, :, None, None]

    def attention(self, x: Tensor) -> Tensor:
        """The gate of rows and columns, (B, C, H, W)."""
        return self._by_place(x)

    def forward(self, x: Tensor) -> Tensor:
        y = x * self._by_place(x)
        return y * self._by_channel(y)
