"""CrossFormer: attention to near pixels, then to distant ones (Wang et al., ICLR 2022, arXiv:2108.00154)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.heads import heads_for
from models.attention.tokens import Mlp
from models.attention.windows import offset_index, unwindowed, windows
from models.layers.fuse import pad_to_multiple
from models.registry import preserve, register

_FAR = -1e4  # of padding: a finite number, so that a group of nothing else is no NaN


class DynamicPositionBias(nn.Module):
    """A bias for each offset by an MLP, so that a group may have any size (arXiv:2108.00154, eq. 5-6).

    Shape:
        (rows, columns) -> (heads, rows * columns, rows * columns)
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        inner = max(channels // 4, 4)
        layers: list[nn.Module] = [nn.Linear(2, inner)]
        for out in (inner, inner, heads):
            layers += [nn.LayerNorm(inner), nn.ReLU(), nn.Linear(inner, out)]
        self.mlp = nn.Sequential(*layers)

    def forward(self, rows: int, columns: int) -> Tensor:
        like = self.mlp[0].weight
        assert isinstance(like, Tensor)
        up, across = (torch.arange(2 * n - 1, device=like.device) - (n - 1) for n in (rows, columns))
        sides = (2 * rows - 1, 2 * columns - 1)
        offsets = torch.stack((up[:, None].expand(sides), across.expand(sides)), 2).to(like.dtype)
        table = self.mlp(offsets).permute(2, 0, 1).flatten(1)  # (heads, offsets)
        return table[:, offset_index(rows, columns, like.device)]


class _GroupAttention(nn.Module):
    """Multi-head attention inside groups, with a bias for each offset."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.position = DynamicPositionBias(channels, heads)

    def forward(self, groups: Tensor, real: Tensor, sides: tuple[int, int]) -> Tensor:
        """(B, groups, n, C), 1 for pixels and 0 for padding (1, groups, n, 1), and the (rows, columns) of a group -> as the first."""
        split = self.qkv(groups).unflatten(3, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        q, k, v = split.unbind(0)  # (B, groups, heads, n, d) each
        mask = self.position(*sides) + (1 - real).transpose(2, 3)[:, :, None] * _FAR  # (1, groups, heads, n, n)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
        return self.proj(y.transpose(2, 3).flatten(3))


@register(preserve, example=(2, 3, 2))
class CrossFormer(nn.Module):
    """Two CrossFormer blocks (arXiv:2108.00154, section 3.2): short-distance attention, then long-distance attention.

    Each: x + attention(norm(x)), x + mlp(norm(x)). First a group is a window of size x size; then every interval-th pixel of a row and of
    a column. Maps are padded, and padding is not attended to.

    Both blocks have 24 C^2 weights a pixel, a 3x3 convolution 9: with groups and norms it takes some 4x its time.

    Args:
        channels: width C of input and output.
        heads: as in `MUSE`.
        size: side of a window; 7 in the paper.
        interval: of the pixels of a group; 8, 4, 2 and 1 at strides 4, 8, 16 and 32 in the paper.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, channels: int, heads: int | None = None, size: int = 7, interval: int = 2) -> None:
        super().__init__()
        positive(self, size=size, interval=interval)
        heads = heads_for(self, channels, heads)
        self.size, self.interval = size, interval
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))
        self.near, self.far = _GroupAttention(channels, heads), _GroupAttention(channels, heads)
        self.mlps = nn.ModuleList(Mlp(channels) for _ in range(2))

    def _short(self, x: Tensor) -> Tensor:
        real = windows(torch.ones_like(x[:1, :1]), self.size)
        return unwindowed(self.near(windows(x, self.size), real, (self.size, self.size)), self.size, x)

    def _long(self, x: Tensor) -> Tensor:
        step = self.interval
        (B, C, height, width), padded = x.shape, pad_to_multiple(x, step)
        rows, columns = padded.shape[2] // step, padded.shape[3] // step

        def grouped(maps: Tensor) -> Tensor:
            split = maps.reshape(maps.shape[0], -1, rows, step, columns, step).permute(0, 3, 5, 2, 4, 1)
            return split.reshape(maps.shape[0], step * step, rows * columns, maps.shape[1])

        real = pad_to_multiple(torch.ones_like(x[:1, :1]), step)
        y = self.far(grouped(padded), grouped(real), (rows, columns))
        y = y.reshape(B, step, step, rows, columns, C).permute(0, 5, 3, 1, 4, 2)
        return y.reshape(B, C, rows * step, columns * step)[:, :, :height, :width]

    def forward(self, x: Tensor) -> Tensor:
        for attention, (norm1, norm2), mlp in zip((self._short, self._long), (self.norms[:2], self.norms[2:]), self.mlps, strict=True):
            x = x + attention(norm1(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
            x = x + mlp(norm2(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return x
