"""Criss-cross attention (Huang et al., ICCV 2019, arXiv:1811.11721)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.registry import preserve, register


@register(preserve, example=(1,))
class CrissCross(nn.Module):
    """Criss-cross attention (arXiv:1811.11721, section 3.2): a position attends to its row and its column, itself once.

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
        if recurrence < 1:
            raise ValueError(f"CrissCross: recurrence must be at least 1, not {recurrence}")
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

    def _once(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        q, k, v = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        column = torch.einsum("bcyx,bcjx->byxj", q, k)
        row = torch.einsum("bcyx,bcyj->byxj", q, k)
        # The position itself stands in its row already. The mask is made where the map is: copies make it on the CPU.
        itself = torch.eye(height, dtype=torch.bool, device=x.device)[None, :, None]
        share = torch.cat((column.masked_fill(itself, float("-inf")), row), 3).softmax(3).to(v.dtype)
        from_column = torch.einsum("byxj,bcjx->bcyx", share[..., :height], v)
        from_row = torch.einsum("byxj,bcyj->bcyx", share[..., height:], v)
        return self.gamma * (from_column + from_row) + x
