"""Position tables of self-attention over a map, at any size of the map (Srinivas et al., CVPR 2021, arXiv:2101.11605)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a map; a single number is the side of a square.

    Raises:
        ValueError: a side below 1.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"fmap_size is the native (height, width) of a map, both at least 1, not {size}")
    return height, width


def resized(table: Tensor, length: int) -> Tensor:
    """Fit a (L, d) position table to `length` rows by linear interpolation; unchanged at its native length."""
    if table.shape[0] == length and not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return table
    return F.interpolate(table.T[None], size=length, mode="linear", align_corners=True)[0].T


def relative_rows(table: Tensor, size: int) -> Tensor:
    """Fit a (2 * native - 1, d) table of offsets to a map of `size`: an exact slice when smaller, interpolated when larger.

    Has no branch, so that a trace or an export works at every size.
    """
    last = table.shape[0] - 1
    offsets = torch.arange(2 * size - 1, device=table.device) - (size - 1)
    place = last / 2 + offsets * (last / 2 / offsets[-1].clamp(min=1)).clamp(max=1)
    low = place.long().clamp(max=last)
    share = (place - low)[:, None].to(table.dtype)
    return table[low] * (1 - share) + table[(low + 1).clamp(max=last)] * share


def relative_table(table: Tensor, size: int) -> Tensor:
    """Return (size, size, d), where [i, j] is the row of offset j - i: key minus query."""
    rows = relative_rows(table, size)
    index = torch.arange(size, device=table.device)
    return rows[index[None, :] - index[:, None] + size - 1]


class RelativePosition(nn.Module):
    """Relative position logits, a row term plus a column term, shared by all heads (arXiv:2101.11605, figure 4).

    Args:
        fmap_size: native (height, width) of the map.
        dim_head: width d of a head.

    Shape:
        q (B, heads, H * W, d), H, W -> (B, heads, H * W, H * W)
    """

    def __init__(self, fmap_size: tuple[int, int], dim_head: int) -> None:
        super().__init__()
        height, width = fmap_size
        self.rel_height = nn.Parameter(torch.randn(2 * height - 1, dim_head) * dim_head**-0.5)
        self.rel_width = nn.Parameter(torch.randn(2 * width - 1, dim_head) * dim_head**-0.5)

    def forward(self, q: Tensor, height: int, width: int) -> Tensor:
        q = q.reshape(-1, q.shape[1], height, width, q.shape[3])  # -1: ONNX's tracer takes a batch behind unflatten for constant
        rows = relative_table(self.rel_height.to(q.dtype), height)
        columns = relative_table(self.rel_width.to(q.dtype), width)
        by_row = torch.einsum("bnyxd,yYd->bnyxY", q, rows)[..., None]
        by_column = torch.einsum("bnyxd,xXd->bnyxX", q, columns)[..., None, :]
        return (by_row + by_column).flatten(4, 5).flatten(2, 3)


class AbsolutePosition(nn.Module):
    """Absolute position embedding, a row term plus a column term.

    Args:
        fmap_size: native (height, width) of the map.
        dim_head: width d of a head.

    Shape:
        height, width -> (H * W, d)
    """

    def __init__(self, fmap_size: tuple[int, int], dim_head: int) -> None:
        super().__init__()
        height, width = fmap_size
        self.height = nn.Parameter(torch.randn(height, dim_head) * dim_head**-0.5)
        self.width = nn.Parameter(torch.randn(width, dim_head) * dim_head**-0.5)

    def forward(self, height: int, width: int) -> Tensor:
        return (resized(self.height, height)[:, None] + resized(self.width, width)[None]).flatten(0, 1)
