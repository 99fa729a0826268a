"""Global attention mechanism (Liu et al., 2021, arXiv:2112.05561)."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.shuffle import shuffled
from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


class _SpatialGate(nn.Module):
    """Two 7x7 convolutions through a bottleneck; with groups, their channels are shuffled in between."""

    def __init__(self, channels: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.groups = math.gcd(hidden, groups)
        self.conv1 = nn.Conv2d(channels, hidden, 7, padding=3, groups=math.gcd(channels, self.groups))
        self.bn1: nn.Module = PooledBatchNorm(hidden)
        self.conv2 = nn.Conv2d(hidden, channels, 7, padding=3, groups=math.gcd(channels, self.groups))
        self.bn2: nn.Module = PooledBatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(shuffled(y, self.groups) if self.groups > 1 else y)).sigmoid()

    def fuse(self) -> None:
        """Fold the batch norms into the convolutions."""
        fold_members(self, ("conv1", "bn1"), ("conv2", "bn2"))


@register(preserve, example=(2,))
class GAM(nn.Module):
    """Global attention (arXiv:2112.05561, section 3): a gate for each channel of each pixel, by an MLP, then by convolutions.

    Nothing is pooled. The two 7x7 convolutions cost 2 * 49 / reduction multiplications per pixel and pair of channels, a 3x3
    convolution 9; `groups` divides that, as in the paper's ResNet-50.

    Args:
        channels: width C of input and output.
        reduction: both bottlenecks have C / reduction channels, at least one.
        groups: of the 7x7 convolutions, as many of them as divide; their channels are shuffled in between.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, reduction: int = 4, groups: int = 1) -> None:
        super().__init__()
        positive(self, reduction=reduction, groups=groups)
        hidden = max(channels // reduction, 1)
        self.channel_attention = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))
        self.spatial_attention = _SpatialGate(channels, hidden, groups)

    def attention(self, x: Tensor) -> Tensor:
        """Both gates, (B, C, H, W)."""
        gate = self._channel_gate(x)
        return gate * self.spatial_attention(x * gate)

    def _channel_gate(self, x: Tensor) -> Tensor:
        # The authors' code omits this sigmoid, which figure 2 of the paper has.
        return self.channel_attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y = x * self._channel_gate(x)
        return y * self.spatial_attention(y)
