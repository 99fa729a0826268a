"""Norms: over the channels of a pixel, and a batch norm for pooled maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PooledBatchNorm(nn.BatchNorm2d):
    """Batch norm of maps pooled to one pixel, which also trains with a single image.

    A batch of one image has one value per channel, for which PyTorch raises an error; here the running statistics are used.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class GroupNorm(nn.GroupNorm):
    """GroupNorm without PyTorch's check of the size, which rejects one value per group and breaks traces at other sizes.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class Shift(nn.Module):
    """Add a constant to each channel: the rest of a batch norm whose factor was folded into a layer before it.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.view(-1, 1, 1).to(x.dtype)


@torch.no_grad()
def factor_and_shift(norm: nn.BatchNorm2d, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return a batch norm in evaluation mode, of inputs plus `bias`, as per-channel factor and shift, each (C,)."""
    assert norm.running_mean is not None, "no running statistics"
    assert norm.running_var is not None, "no running statistics"
    factor = torch.rsqrt(norm.running_var + norm.eps)
    shift = (-norm.running_mean if bias is None else bias - norm.running_mean) * factor
    return (factor * norm.weight, shift * norm.weight + norm.bias) if norm.affine else (factor, shift)
