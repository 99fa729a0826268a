"""Efficient Channel Attention (Wang et al., CVPR 2020, arXiv:1910.03151)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from models.arguments import odd
from models.registry import preserve, register


@register(preserve, example=(3,))
class ECA(nn.Module):
    """Efficient Channel Attention (arXiv:1910.03151, eq. 9-12): a 1-D convolution over the channel means gates each channel.

    Args:
        channels: width C of input and output.
        kernel_size: length of the convolution, odd; None is |log2(C) + b| / gamma, rounded down to an integer and, if even, up to odd.
        gamma, b: parameters of that rule.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, channels: int, kernel_size: int | None = None, gamma: float = 2.0, b: float = 1.0) -> None:
        super().__init__()
        if kernel_size is None:
            kernel_size = int(abs((math.log2(channels) + b) / gamma))
            kernel_size += 1 - kernel_size % 2
        odd(self, kernel_size=kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, 1, 1)."""
        gate = self.conv(x.mean((2, 3))[:, None]).sigmoid()  # (B, 1, C)
        return gate[:, 0, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
