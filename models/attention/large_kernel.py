"""Large-kernel attention: LSKA (Lau et al., 2023, arXiv:2309.01439) and LSK (Li et al., ICCV 2023, arXiv:2303.09030)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.arguments import odd, positive
from models.layers.spatial import peak
from models.registry import preserve, register


def _strip(channels: int, kernel: int, dilation: int, *, across: bool) -> nn.Conv2d:
    """A depthwise convolution along a row, or along a column, that keeps the size."""
    edge = dilation * (kernel // 2)
    if across:
        return nn.Conv2d(channels, channels, (1, kernel), padding=(0, edge), dilation=(1, dilation), groups=channels)
    return nn.Conv2d(channels, channels, (kernel, 1), padding=(edge, 0), dilation=(dilation, 1), groups=channels)


@register(preserve, example=(11,))
class LSKA(nn.Module):
    """Large separable kernel attention (arXiv:2309.01439, eq. 3): strips, then dilated strips, then 1x1 make the gate of each pixel.

    Args:
        channels: width C of input and output.
        kernel_size: side k of the kernel that the strips make up, odd, 7 or more: 7, 11, 23, 35, 41 or 53 in the paper.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size, or one below 7.
    """

    def __init__(self, channels: int, kernel_size: int = 23) -> None:
        super().__init__()
        odd(self, kernel_size=kernel_size)
        if kernel_size < 7:
            raise ValueError(f"LSKA: kernel_size must be 7 or more, not {kernel_size}")
        # Table 2: dilation 2 up to a kernel of 11, then 3; strips of 2d - 1, then dilated ones of k / d.
        dilation = 2 if kernel_size <= 11 else 3
        near, far = 2 * dilation - 1, kernel_size // dilation
        far += 1 - far % 2
        self.conv0h, self.conv0v = _strip(channels, near, 1, across=True), _strip(channels, near, 1, across=False)
        self.conv_spatial_h = _strip(channels, far, dilation, across=True)
        self.conv_spatial_v = _strip(channels, far, dilation, across=False)
        self.conv1 = nn.Conv2d(channels, channels, 1)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W)."""
        return self.conv1(self.conv_spatial_v(self.conv_spatial_h(self.conv0v(self.conv0h(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


@register(preserve)
class LSK(nn.Module):
    """Large selective kernel (arXiv:2303.09030, section 3.2): each position chooses between receptive fields of 5 and 23 pixels.

    Args:
        channels: width C of input and output.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        positive(self, channels=channels)
        half = max(channels // 2, 1)
        self.conv0 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.conv_spatial = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.conv1, self.conv2 = nn.Conv2d(channels, half, 1), nn.Conv2d(channels, half, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(half, channels, 1)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W)."""
        near = self.conv0(x)
        first, second = self.conv1(near), self.conv2(self.conv_spatial(near))
        both = torch.cat((first, second), 1)
        pooled = torch.cat((both.mean(1, keepdim=True), peak(both, 1)), 1)
        share = self.conv_squeeze(pooled).sigmoid()
        return self.conv(first * share[:, :1] + second * share[:, 1:])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
