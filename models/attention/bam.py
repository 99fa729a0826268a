"""Bottleneck attention module (Park et al., BMVC 2018, arXiv:1807.06514)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


@register(preserve, example=(2,))
class BAM(nn.Module):
    """Bottleneck attention (arXiv:1807.06514, eq. 1-4): x + x * sigmoid(channel gate + position gate).

    The authors' later code multiplies the two gates instead, and has batch norms inside them.

    Args:
        channels: width C of input and output.
        reduction: both gates have bottlenecks of C / reduction channels, at least one.
        dilation: of the position gate's two 3x3 convolutions.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4) -> None:
        super().__init__()
        positive(self, reduction=reduction, dilation=dilation)
        hidden = max(channels // reduction, 1)
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.bn_c: nn.Module = PooledBatchNorm(channels)
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)
        self.conv3 = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)
        self.conv4 = nn.Conv2d(hidden, 1, 1)
        self.bn_s: nn.Module = PooledBatchNorm(1)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W)."""
        by_channel = self.bn_c(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))
        by_place = self.bn_s(self.conv4(F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))))
        return (by_channel + by_place).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.attention(x)

    def fuse(self) -> None:
        """Fold the batch norms into the last convolutions of the gates."""
        fold_members(self, ("fc2", "bn_c"), ("conv4", "bn_s"))
