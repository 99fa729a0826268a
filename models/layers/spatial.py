"""The spatial gate of CBAM and triplet attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm


class PooledGate(nn.Module):
    """One gate per position, from the maximum and the mean over the channels, as in the authors' code of both papers.

    Args:
        kernel_size: side of the convolution, odd.

    Shape:
        (B, C, H, W) -> (B, 1, H, W) in 0..1
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn: nn.Module = PooledBatchNorm(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return self.bn(self.conv(pooled)).sigmoid()

    def fuse(self) -> None:
        """Fold the batch norm into the convolution."""
        fold_members(self, ("conv", "bn"))
