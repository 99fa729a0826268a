"""YOLOv5's head on adaptively fused levels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.heads.detect import Detect
from models.heads.head import as_levels
from models.layers.adaptive_fusion import AdaptiveFusion
from models.layers.conv import Conv
from models.registry import levels, register

_COMPRESSED = 16


class ASFF(AdaptiveFusion):
    """Adaptively spatial feature fusion of one level (arXiv:1911.09516): finer levels by max-pooling and a convolution of stride 2, coarser
    ones by a 1x1 and nearest-neighbour upsampling.

    Args:
        channels: width of each level, finest first.
        level: index of the one to fuse to.

    Shape:
        list of (B, C_i, H_i, W_i) -> (B, C_level, H_level, W_level)
    """

    def __init__(self, channels: Sequence[int], level: int) -> None:
        width, resize = channels[level], list[nn.Module]()
        for i, c in enumerate(channels):
            pools = [nn.MaxPool2d(3, 2, 1) for _ in range(level - i - 1)]
            own: nn.Module = nn.Identity() if i == level else Conv(c, width, 3, 2) if i < level else Conv(c, width)
            resize.append(nn.Sequential(*pools, own))
        super().__init__(level, resize, width, _COMPRESSED)

    def resized(self, x: Sequence[Tensor]) -> list[Tensor]:
        size = x[self.level].shape[2:]
        return [F.interpolate(resize(y), size, mode="nearest") for y, resize in zip(x, self.resize, strict=True)]


@register(levels, example=(3, ((10, 13, 16, 30), (30, 61, 62, 45))), inputs=(16, 32))
class ASFF_Detect(Detect):  # noqa: N801  YOLOAir's name
    """`Detect` after an `ASFF` for each level.

    Args:
        channels: width of each level, finest first.
        classes, anchors: as in `Detect`.

    Shape:
        as `Detect`
    """

    def __init__(self, channels: Sequence[int], classes: int = 80, anchors: int | Sequence[Sequence[float]] = 3) -> None:
        super().__init__(channels, classes, anchors)
        self.fusion = nn.ModuleList(ASFF(channels, i) for i in range(len(channels)))

    def forward(self, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
        x = as_levels(x)
        return super().forward([fuse(x) for fuse in self.fusion])
