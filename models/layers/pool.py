"""Spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.layers.conv import Conv
from models.layers.join import join
from models.registry import project, register


@register(project, example=(48, (3, 5)))
class SPP(nn.Module):
    """Spatial pyramid pooling (He et al., TPAMI 2015) as in YOLOv5: the input and max-pools of several sizes, concatenated.

    Args:
        c1: input width.
        c2: output width.
        k: odd kernel sizes of the pools.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 // 2 * (len(k) + 1), c2)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(join(x, *(pool(x) for pool in self.m)))


@register(project, example=(48, 5))
class SPPF(nn.Module):
    """`SPP` with kernels k, 2k - 1 and 3k - 2, computed faster: three successive pools of size k (YOLOv5).

    Args:
        c1: input width.
        c2: output width.
        k: odd kernel size.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 // 2 * 4, c2)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        once = self.m(x)
        twice = self.m(once)
        return self.cv2(join(x, once, twice, self.m(twice)))
