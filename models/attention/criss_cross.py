"""Criss-cross attention (Huang et al., ICCV 2019, arXiv:1811.11721)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.registry import preserve, register


@register(preserve, example=(1,))
class CrissCross(nn.Module):
    """Criss-cross attention (arXiv:1811.11721, section 3.2): a position attends to its row and its column, counting itself once.

    Args:
        channels: width C of input and output.
        recurrence: passes with the same weights; two let every position see all others.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; memory grows with H * W * (H + W)

    Raises:
        ValueError: a recurrence below 1.
    """

    def __init__(self, channels: int, recurrence: int = 1) -> None:
        super().__init__()
        positive(self, recurrence=recurrence)
        self.recurrence = recurrence
        inner = max(channels // 8, 1)
        self.query_conv = nn.Conv2d(channels, inner, 1)
        self.key_conv = nn.Conv2d(channels, inner, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.recurrence):
            x = self._once(x)
        return x

    def attention(self, x: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        """Attention weights in the last pass for the query in row and column `at`, or the mean over all: (B, 1, H, W), sum to 1."""
        for _ in range(self.recurrence - 1):
            x = self._once(x)
        from_column, from_row = self._weights(x).split(x.shape[2:], 3)  # (B, H, W, H) and (B, H, W, W)
        if at is None:
            return (from_column.sum(1).transpose(1, 2) + from_row.sum(2))[:, None] / (x.shape[2] * x.shape[3])
        row, column = at
        out = torch.zeros_like(x[:, :1], dtype=from_row.dtype)
        out[:, 0, :, column] = from_column[:, row, column]
        out[:, 0, row] += from_row[:, row, column]
        return out

    def _weights(self, x: Tensor) -> Tensor:
        """Attention weights of each query over its column, without itself, and then over its row: (B, H, W, H + W)."""
        q, k = self.query_conv(x), self.key_conv(x)
        column = torch.einsum("bcyx,bcjx->byxj", q, k)
        row = torch.einsum("bcyx,bcyj->byxj", q, k)
        # The row already contains the position itself. Widely used copies create this mask on the CPU.
        index = torch.arange(x.shape[2], device=x.device)
        itself = (index[:, None] == index)[None, :, None]
        return torch.cat((column.masked_fill(itself, float("-inf")), row), 3).softmax(3)

    def _once(self, x: Tensor) -> Tensor:
        height, v = x.shape[2], self.value_conv(x)
        weights = self._weights(x).to(v.dtype)
        from_column = torch.einsum("byxj,bcjx->bcyx", weights[..., :height], v)
        from_row = torch.einsum("byxj,bcyj->bcyx", weights[..., height:], v)
        return self.gamma * (from_column + from_row) + x
