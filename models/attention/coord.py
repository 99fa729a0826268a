"""Coordinate attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import fold_members
from models.registry import preserve, register


@register(preserve, example=(4,))
class CoordAtt(nn.Module):
    """Coordinate attention (Hou et al., CVPR 2021, arXiv:2103.02907).

    Pools each row and each column, so that the gates keep the position along one axis while averaging over the other. State_dict
    keys and BatchNorm settings are those of the authors' code, whose weights load.

    Args:
        channels: width C of input and output.
        reduction: the bottleneck has max(C // reduction, 8) channels.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        positive(self, reduction=reduction)
        squeezed = max(8, channels // reduction)
        self.conv1 = nn.Conv2d(channels, squeezed, 1)
        self.bn1: nn.Module = nn.BatchNorm2d(squeezed)
        self.conv_h = nn.Conv2d(squeezed, channels, 1)
        self.conv_w = nn.Conv2d(squeezed, channels, 1)

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gates of the rows, (B, C, H, 1), and of the columns, (B, C, 1, W)."""
        H = x.shape[2]
        rows = x.mean(3, keepdim=True)  # (B, C, H, 1)
        columns = x.mean(2, keepdim=True).transpose(2, 3)  # (B, C, W, 1)
        joint = F.hardswish(self.bn1(self.conv1(torch.cat((rows, columns), 2))))  # (B, squeezed, H + W, 1)
        gate_h = self.conv_h(joint[:, :, :H]).sigmoid()  # (B, C, H, 1)
        gate_w = self.conv_w(joint[:, :, H:]).sigmoid().transpose(2, 3)  # (B, C, 1, W)
        return gate_h, gate_w

    def attention(self, x: Tensor) -> Tensor:
        """Both gates, (B, C, H, W)."""
        gate_h, gate_w = self.gates(x)
        return gate_h * gate_w

    def forward(self, x: Tensor) -> Tensor:
        gate_h, gate_w = self.gates(x)
        return x * gate_h * gate_w

    def fuse(self) -> None:
        """Fold the batch norm into the first convolution."""
        fold_members(self, ("conv1", "bn1"))
