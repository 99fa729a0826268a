"""Attention from strips of a map: ELA (Xu & Wan, 2024, arXiv:2403.01123) and CAA (Cai et al., CVPR 2024, arXiv:2403.06258)."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


class _LineNorm(nn.GroupNorm):
    """GroupNorm of lines, (B, C, L) -> the same, that takes one position too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x[..., None], self.num_groups, self.weight, self.bias, self.eps)[..., 0]


@register(preserve, example=(5, 4))
class ELA(nn.Module):
    """Efficient local attention (arXiv:2403.01123, section 3): 1-D convolutions over the means of rows and of columns gate both.

    Unlike `CoordAtt`, nothing is squeezed, and group norm stands for batch norm.

    Args:
        channels: width C of input and output.
        kernel_size: length of the depthwise 1-D convolutions, odd.
        norm_groups: of the group norms; as many of them as divide C.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, channels: int, kernel_size: int = 7, norm_groups: int = 16) -> None:
        super().__init__()
        odd(self, kernel_size=kernel_size)
        positive(self, norm_groups=norm_groups)
        groups = math.gcd(channels, norm_groups)
        self.conv_h = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        self.conv_w = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        self.gn_h, self.gn_w = _LineNorm(groups, channels), _LineNorm(groups, channels)

    def attention(self, x: Tensor) -> Tensor:
        """Both gates, (B, C, H, W)."""
        rows = self.gn_h(self.conv_h(x.mean(3))).sigmoid()
        columns = self.gn_w(self.conv_w(x.mean(2))).sigmoid()
        return rows[..., None] * columns[:, :, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)


@register(preserve, example=(5,))
class CAA(nn.Module):
    """Context anchor attention of PKINet (arXiv:2403.06258, eq. 5-7): a 7x7 mean, 1x1, a row and a column strip, 1x1, sigmoid.

    The mean and the strips are bound by memory: on a CPU it takes about 2x a 3x3 convolution's time, with a quarter of its operations.

    Args:
        channels: width C of input and output.
        kernel_size: length of the depthwise strips, odd; 11, 13, 15 ... over PKINet's blocks.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, channels: int, kernel_size: int = 11) -> None:
        super().__init__()
        odd(self, kernel_size=kernel_size)
        edge = kernel_size // 2
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn1: nn.Module = PooledBatchNorm(channels, eps=1e-3, momentum=0.03)
        self.h_conv = nn.Conv2d(channels, channels, (1, kernel_size), padding=(0, edge), groups=channels)
        self.v_conv = nn.Conv2d(channels, channels, (kernel_size, 1), padding=(edge, 0), groups=channels)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2: nn.Module = PooledBatchNorm(channels, eps=1e-3, momentum=0.03)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W)."""
        y = F.silu(self.bn1(self.conv1(F.avg_pool2d(x, 7, 1, 3))))
        # The authors' code has an activation before the sigmoid, too.
        return F.silu(self.bn2(self.conv2(self.v_conv(self.h_conv(y))))).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)

    def fuse(self) -> None:
        """Fold the batch norms into the 1x1 convolutions."""
        fold_members(self, ("conv1", "bn1"), ("conv2", "bn2"))
