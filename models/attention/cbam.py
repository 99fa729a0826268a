"""Convolutional Block Attention Module (Woo et al., ECCV 2018, arXiv:1807.06521)."""

from __future__ import annotations

from torch import Tensor, nn

from models.arguments import odd, positive
from models.layers.spatial import PooledGate, peak
from models.registry import preserve, register


class _ChannelGate(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        # Flatten keeps the indices of the authors' state_dict keys.
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, 1, 1)."""
        gate = self.mlp(x.mean((2, 3))) + self.mlp(peak(x.flatten(2), 2))
        return gate.sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


class _SpatialGate(nn.Module):
    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.spatial = PooledGate(kernel_size)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, 1, H, W)."""
        return self.spatial(x)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


@register(preserve, example=(4, 3))
class CBAM(nn.Module):
    """Channel gate, then spatial gate (arXiv:1807.06521, eq. 1-3; details of the authors' code, maximum before mean).

    It has no residual, which some copies add.

    Args:
        channels: width C of input and output.
        reduction: the channel gate's bottleneck has max(C // reduction, 1) units.
        kernel_size: side of the spatial gate's convolution, odd.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        positive(self, reduction=reduction)
        odd(self, kernel_size=kernel_size)
        self.ChannelGate = _ChannelGate(channels, reduction)
        self.SpatialGate = _SpatialGate(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))
