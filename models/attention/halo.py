"""Halo attention (Vaswani et al., CVPR 2021, arXiv:2103.12731)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.heads import heads_for
from models.registry import preserve, register


class _Axis:
    """Where the blocks of an axis and their halos lie: `seen` (blocks, size + 2 halo) are positions, `outside` those beyond the map."""

    def __init__(self, length: int, size: int, halo: int, device: torch.device) -> None:
        place = torch.arange(length, device=device)
        start = torch.arange((length + size - 1) // size, device=device) * size
        seen = start[:, None] + torch.arange(-halo, size + halo, device=device)
        self.outside = (seen < 0) | (seen > place[-1])
        self.seen = torch.minimum(seen.clamp(min=0), place[-1])


@register(preserve, example=(2, 4, 2))
class HaloAttention(nn.Module):
    """Blocked local self-attention (arXiv:2103.12731, section 3.1): the pixels of a block attend to it and to a halo around it.

    Relative positions as in `MHSA`; nothing beyond the map is attended to. There is no output projection, as in the paper. Blocks
    with their halos are three times the map at the defaults: bound by memory, it takes more than 2x a 3x3 convolution's time.

    Args:
        channels: width C of input and output.
        heads: number of heads; None gives each 16 channels, as in the paper, or the next number that divides.
        block_size: side of the blocks in pixels.
        halo: pixels seen beyond each side of a block.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, channels: int, heads: int | None = None, block_size: int = 8, halo: int = 3) -> None:
        super().__init__()
        positive(self, block_size=block_size, halo=halo)
        heads = heads_for(self, channels, heads, 16)
        self.heads, self.block_size, self.halo = heads, block_size, halo
        width, offsets = channels // heads, 2 * (block_size + halo) - 1
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.rel_height = nn.Parameter(torch.randn(offsets, width) * width**-0.5)
        self.rel_width = nn.Parameter(torch.randn(offsets, width) * width**-0.5)

    def _position(self, table: Tensor) -> Tensor:
        """Row of the table for each query of a block and each key of block and halo: (block, block + 2 halo, d)."""
        index = torch.arange(self.block_size + 2 * self.halo, device=table.device)
        return table[index - self.halo - index[: self.block_size, None] + self.block_size + self.halo - 1]

    def _logits(self, q: Tensor, outside: Tensor) -> Tensor:
        """Position logits, and -inf for what is outside: q (B, blocks, heads, s, s, d) -> (B, blocks, heads, s^2, (s + 2 halo)^2)."""
        by_row = torch.einsum("bnhyxd,yYd->bnhyxY", q, self._position(self.rel_height).to(q.dtype))[..., None]
        by_column = torch.einsum("bnhyxd,xXd->bnhyxX", q, self._position(self.rel_width).to(q.dtype))[..., None, :]
        logits = (by_row + by_column).flatten(5).flatten(3, 4)
        return logits.masked_fill(outside[:, None, None], float("-inf"))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        s = self.block_size
        rows, columns = _Axis(height, s, self.halo, x.device), _Axis(width, s, self.halo, x.device)
        q, k, v = self.to_qkv(x).chunk(3, 1)
        q = F.pad(q, (0, -width % s, 0, -height % s)) * (channels // self.heads) ** -0.5
        q = q.reshape(batch, self.heads, -1, q.shape[2] // s, s, q.shape[3] // s, s).permute(0, 3, 5, 1, 4, 6, 2).flatten(1, 2)
        near = [t[:, :, rows.seen][..., columns.seen] for t in (k, v)]  # (B, C, block rows, s + 2 halo, block columns, s + 2 halo)
        # One copy with the d numbers of a pixel contiguous, which the fused kernels need.
        k, v = (t.unflatten(1, (self.heads, -1)).permute(0, 3, 5, 1, 4, 6, 2).flatten(4, 5).flatten(1, 2) for t in near)
        outside = (rows.outside[:, None, :, None] | columns.outside[:, None]).flatten(2).flatten(0, 1)  # (blocks, keys)
        mask = self._logits(q, outside)
        q, k, v, mask = q.flatten(3, 4).flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), mask.flatten(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        out = out.reshape(batch, rows.seen.shape[0], columns.seen.shape[0], self.heads, s, s, -1).permute(0, 3, 6, 1, 4, 2, 5)
        return out.reshape(batch, channels, rows.seen.shape[0] * s, columns.seen.shape[0] * s)[:, :, :height, :width]
