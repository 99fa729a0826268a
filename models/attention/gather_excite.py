"""Gather-Excite (Hu et al., NeurIPS 2018, arXiv:1810.12348)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


@register(preserve, example=(4,))
class GatherExcite(nn.Module):
    """Gather-Excite (arXiv:1810.12348, section 3): each channel is gated by the features around a position.

    Args:
        channels: width C of input and output.
        extent: size of the neighbourhood in pixels, a power of two; 0 is the whole map.
        gather: "theta-minus" (averages, no parameters), "theta" (depthwise convolutions of stride 2) or "theta-plus" (followed by the
            bottleneck of `SE`).
        reduction: the bottleneck has max(C // reduction, 1) units.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an extent that is not a power of two, an unknown `gather`, or an extent of 0 with convolutions, whose kernel would
            be as large as the map and fix its size.
    """

    def __init__(
        self, channels: int, extent: int = 8, gather: Literal["theta-minus", "theta", "theta-plus"] = "theta-plus", reduction: int = 16
    ) -> None:
        super().__init__()
        if gather not in {"theta-minus", "theta", "theta-plus"}:
            raise ValueError(f"GatherExcite: gather must be 'theta-minus', 'theta' or 'theta-plus', not {gather!r}")
        if extent < 0 or extent == 1 or extent & (extent - 1):
            raise ValueError(f"GatherExcite: extent must be 0 (the whole map) or 2, 4, 8, ..., not {extent}")
        if extent == 0 and gather != "theta-minus":
            raise ValueError(f"GatherExcite: {gather} over the whole map would fix its size; give an extent, or use 'theta-minus'")
        positive(self, reduction=reduction)
        self.extent = extent
        self.gather: nn.Sequential | None = None
        if gather != "theta-minus":
            self.gather = nn.Sequential()
            for _ in range(int(math.log2(extent))):
                self.gather.append(nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False))
                self.gather.append(PooledBatchNorm(channels))
        hidden = max(channels // reduction, 1)
        self.mlp: nn.Sequential | None = None
        if gather == "theta-plus":
            self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1))

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W), or (B, C, 1, 1) where the whole map is gathered."""
        if self.gather is not None:
            y = self.gather(x)
        elif self.extent:
            y = F.avg_pool2d(x, 2 * self.extent - 1, self.extent, self.extent - 1, count_include_pad=False)
        else:
            y = x.mean((2, 3), keepdim=True)
        if self.mlp is not None:
            y = self.mlp(y)
        return (F.interpolate(y, size=x.shape[2:], mode="nearest") if self.extent else y).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
