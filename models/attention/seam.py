"""Separated and enhancement attention of YOLO-FaceV2 (Yu et al., 2022, arXiv:2208.02019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


class _Separated(nn.Module):
    """A depthwise convolution with a residual, then a 1x1 convolution; each with an activation, then batch norm."""

    def __init__(self, channels: int, kernel_size: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels), act(), PooledBatchNorm(channels)
        )
        self.pointwise = nn.Sequential(nn.Conv2d(channels, channels, 1), act(), PooledBatchNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(x + self.depthwise(x))


class _Gated(nn.Module):
    """The channels' gates, exp(sigmoid(MLP)): 1 to e, so that nothing is damped."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(inplace=True), nn.Linear(hidden, channels, bias=False), nn.Sigmoid()
        )

    def described(self, x: Tensor) -> Tensor:
        """What the gates follow from: (B, C, H, W) -> (B, C)."""
        raise NotImplementedError

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, 1, 1), 1 to e."""
        return self.fc(self.described(x)).exp()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)

    def initialize(self) -> None:
        """Xavier-uniform convolutions, as the authors."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)


@register(preserve, example=(1, 4))
class SEAM(_Gated):
    """Separated and enhancement attention (arXiv:2208.02019, section 3.4): gates of 1 to e from depthwise separable convolutions.

    Args:
        channels: width C of input and output.
        depth: number of separable convolutions.
        reduction: the bottleneck has C / reduction units, at least one.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, depth: int = 1, reduction: int = 16) -> None:
        positive(self, depth=depth, reduction=reduction)
        super().__init__(channels, reduction)
        self.convs = nn.Sequential(*(_Separated(channels, 3, nn.GELU) for _ in range(depth)))
        self.initialize()

    def described(self, x: Tensor) -> Tensor:
        return self.convs(x).mean((2, 3))


@register(preserve, example=(1, 3, (2, 3), 4))
class MultiSEAM(_Gated):
    """SEAM at several scales (arXiv:2208.02019, section 3.4): patches of several sizes are embedded, then convolved as in `SEAM`.

    The gates follow from the mean of the scales' and the input's means. The embeddings of the default sizes have 149 C^2
    parameters; reading them takes more than 2x a 3x3 convolution's time where the map is small.

    Args:
        channels: width C of input and output.
        depth: number of separable convolutions for each size.
        kernel_size: of their depthwise convolutions, odd.
        patch_sizes: sides of the patches in pixels.
        reduction: as in `SEAM`.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; padded with zeros to whole patches inside, where the authors' code drops the rest

    Raises:
        ValueError: an even kernel size, or no patch size.
    """

    def __init__(
        self, channels: int, depth: int = 1, kernel_size: int = 3, patch_sizes: Sequence[int] = (6, 7, 8), reduction: int = 16
    ) -> None:
        positive(self, depth=depth, reduction=reduction, patch_sizes=min(patch_sizes, default=0))
        odd(self, kernel_size=kernel_size)
        super().__init__(channels, reduction)
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, size, size),
                nn.SiLU(),
                PooledBatchNorm(channels),
                *(_Separated(channels, kernel_size, nn.SiLU) for _ in range(depth)),
            )
            for size in patch_sizes
        )
        self.patch_sizes = tuple(patch_sizes)
        self.initialize()

    def described(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        maps = [scale(F.pad(x, (0, -width % p, 0, -height % p))) for scale, p in zip(self.scales, self.patch_sizes, strict=True)]
        return torch.stack([m.mean((2, 3)) for m in (*maps, x)], 1).mean(1)
