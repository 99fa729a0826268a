"""The block of ParNet (Goyal et al., 2021, arXiv:2110.07641)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


@register(preserve)
class ParNetBlock(nn.Module):
    """RepVGG-SSE block of ParNet (arXiv:2110.07641, figure 2): a 3x3 and a 1x1 convolution and a gated skip, added, then SiLU.

    Copies leave out the skip's batch norm. `fuse` turns the two convolutions into one.

    Args:
        channels: width C of input and output.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn3: nn.Module = PooledBatchNorm(channels)
        self.conv1: nn.Module = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1: nn.Module = PooledBatchNorm(channels)
        self.skip = PooledBatchNorm(channels)
        self.gate = nn.Conv2d(channels, channels, 1)

    def attention(self, x: Tensor) -> Tensor:
        """The gate of the skip, (B, C, 1, 1)."""
        return self.gate(self.skip(x).mean((2, 3), keepdim=True)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        skip = self.skip(x)
        gated = skip * self.gate(skip.mean((2, 3), keepdim=True)).sigmoid()
        y = self.bn3(self.conv3(x))
        if not isinstance(self.conv1, nn.Identity):
            y = y + self.bn1(self.conv1(x))
        return F.silu(y + gated)

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the batch norms of the convolutions, and add the 1x1 to the middle of the 3x3."""
        if not isinstance(self.conv1, nn.Conv2d):
            return
        fold_members(self, ("conv3", "bn3"), ("conv1", "bn1"))
        assert self.conv3.bias is not None
        assert self.conv1.bias is not None
        self.conv3.weight[:, :, 1, 1] += self.conv1.weight[:, :, 0, 0]
        self.conv3.bias += self.conv1.bias
        self.conv1 = nn.Identity()
