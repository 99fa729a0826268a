"""Cross-stage-partial blocks that keep every inner block's output (YOLOv8, YOLO11), with their names in a state_dict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.conv import Conv
from models.layers.csp import C3, Bottleneck, bottlenecks
from models.registry import register, stack


class Bottleneck3x3(Bottleneck):
    """`Bottleneck` with a 3x3 in place of the 1x1."""

    kernel = 3


@register(stack, example=(48,))
class C2f(nn.Module):
    """Half the channels pass through `n` inner blocks one after the other; the output joins both halves and every block's output (YOLOv8).

    Args:
        c1: input width.
        c2: output width.
        n: inner blocks.
        shortcut: residuals in the inner blocks.
        g: groups of the inner blocks.
        e: inner width / c2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        self.c = int(c2 * e)
        if self.c < 1:
            raise ValueError(f"{type(self).__name__}: e = {e} of {c2} channels gives the inner blocks none; e must be >= {1 / c2:.3g}")
        self.cv1 = Conv(c1, 2 * self.c)
        self.cv2 = Conv((2 + n) * self.c, c2)
        self.m = nn.ModuleList(self.inside(self.c, shortcut, g) for _ in range(n))

    def inside(self, width: int, shortcut: bool, g: int) -> nn.Module:
        """An inner block, (B, width, H, W) -> the same; overridden by subclasses."""
        return Bottleneck3x3(width, width, shortcut, g, e=1.0)

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            maps.append(block(maps[-1]))
        return self.cv2(torch.cat(maps, 1))


@register(stack, example=(48,))
class C3k(C3):
    """`C3` with 3x3 convolutions inside (YOLO11).

    Args:
        c1, c2, n, shortcut, g, e: as in `C3`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return bottlenecks(width, n, shortcut, g, Bottleneck3x3)


@register(stack, example=(48, True))
class C3k2(C2f):
    """`C2f` whose inner blocks are two 3x3 convolutions of half the width, or a `C3k` of two of them (YOLO11).

    Args:
        c1, c2, n: as in `C2f`.
        c3k: whether the inner blocks are `C3k`.
        e: inner width / c2.
        g: groups of the inner blocks.
        shortcut: residuals in the inner blocks.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, c3k: bool = False, e: float = 0.5, g: int = 1, shortcut: bool = True) -> None:
        self.c3k = c3k
        super().__init__(c1, c2, n, shortcut, g, e)

    def inside(self, width: int, shortcut: bool, g: int) -> nn.Module:
        return C3k(width, width, 2, shortcut, g) if self.c3k else Bottleneck3x3(width, width, shortcut, g)
