"""Self-calibrated convolution (Liu et al., CVPR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


def _conv_norm(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, padding=1, bias=False), PooledBatchNorm(channels)]


class _Calibrated(nn.Module):
    """K4(K3(x) * sigmoid(x + up(K2(pooled x)))): a map at low resolution gates the full one."""

    def __init__(self, channels: int, pooling: int) -> None:
        super().__init__()
        self.k2 = nn.Sequential(nn.AvgPool2d(pooling, ceil_mode=True), *_conv_norm(channels))
        self.k3 = nn.Sequential(*_conv_norm(channels))
        self.k4 = nn.Sequential(*_conv_norm(channels))

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W)."""
        return (x + F.interpolate(self.k2(x), size=x.shape[2:], mode="nearest")).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.k4(self.k3(x) * self.attention(x))


@register(preserve, example=(2,))
class SCConv(nn.Module):
    """Self-calibrated convolution (Liu et al., CVPR 2020, section 3.2): one half of the channels is convolved, the other one calibrated.

    Args:
        channels: width C of input and output, at least 2.
        pooling: side r of the pool before the low-resolution convolution; a map smaller than r is pooled to one pixel.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: a width of 1.
    """

    def __init__(self, channels: int, pooling: int = 4) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"SCConv: channels must be at least 2, not {channels}")
        positive(self, pooling=pooling)
        half = channels // 2
        self.conv1_a = nn.Conv2d(channels, channels - half, 1, bias=False)
        self.bn1_a: nn.Module = PooledBatchNorm(channels - half)
        self.conv1_b = nn.Conv2d(channels, half, 1, bias=False)
        self.bn1_b: nn.Module = PooledBatchNorm(half)
        self.k1 = nn.Sequential(*_conv_norm(channels - half))
        self.scconv = _Calibrated(half, pooling)

    def forward(self, x: Tensor) -> Tensor:
        convolved = self.k1(F.relu(self.bn1_a(self.conv1_a(x))))
        calibrated = self.scconv(F.relu(self.bn1_b(self.conv1_b(x))))
        return torch.cat((F.relu(convolved), F.relu(calibrated)), 1)

    def fuse(self) -> None:
        """Fold the batch norms of the two 1x1 convolutions."""
        fold_members(self, ("conv1_a", "bn1_a"), ("conv1_b", "bn1_b"))
