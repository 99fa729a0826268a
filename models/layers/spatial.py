"""Maxima along an axis, and the spatial gate of CBAM and triplet attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm


def peak(x: Tensor, dim: int) -> Tensor:
    """Maximum along an axis, which keeps one element; the gradient goes to one of equal values.

    That of `amax` is divided between them, which takes twice its time on a CPU; without a gradient `amax` takes half of this one's.
    """
    return x.max(dim, keepdim=True).values if x.requires_grad else x.amax(dim, keepdim=True)


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
        pooled = torch.cat((peak(x, 1), x.mean(1, keepdim=True)), 1)
        return self.bn(self.conv(pooled)).sigmoid()

    def fuse(self) -> None:
        """Fold the batch norm into the convolution."""
        fold_members(self, ("conv", "bn"))
