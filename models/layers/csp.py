"""Residual and cross-stage-partial blocks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.layers.conv import Conv, CrossConv, DWConv, GhostConv, batch_norm, fold_joined
from models.layers.join import join
from models.layers.pool import SPP
from models.layers.transformer import TransformerBlock
from models.registry import project, register, stack


@register(project, example=(32,))
class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution with a residual (YOLOv5).

    Args:
        c1: input width.
        c2: output width.
        shortcut: add the input where c1 == c2.
        g: groups of the 3x3.
        e: inner width / c2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    kernel = 1
    """Of the first convolution."""

    def __init__(self, c1: int, c2: int, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        self.cv1 = Conv(c1, int(c2 * e), self.kernel)
        self.cv2 = Conv(int(c2 * e), c2, 3, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


def bottlenecks(width: int, n: int, shortcut: bool, g: int, block: type[Bottleneck] = Bottleneck) -> nn.Sequential:
    """`n` residual blocks at full width, one after the other."""
    return nn.Sequential(*(block(width, width, shortcut, g, e=1.0) for _ in range(n)))


@register(project, example=(32, 3, 1))
class GhostBottleneck(nn.Module):
    """Residual block of ghost convolutions (Han et al., CVPR 2020).

    Args:
        c1: input width.
        c2: output width; equal to c1 at stride 1.
        k: kernel size of the depthwise convolution at stride 2.
        s: stride, 1 or 2.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        if s not in {1, 2}:
            raise ValueError(f"stride {s} is neither 1 nor 2")
        if s == 1 and c1 != c2:
            raise ValueError(f"stride 1 needs c1 == c2, not {c1} and {c2}")
        inner = c2 // 2
        middle = DWConv(inner, inner, k, s, act=False) if s == 2 else nn.Identity()
        self.conv = nn.Sequential(GhostConv(c1, inner), middle, GhostConv(inner, c2, act=False))
        self.shortcut = nn.Sequential(DWConv(c1, c1, k, s, act=False), Conv(c1, c2, act=False)) if s == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


@register(stack, example=(48,))
class C3(nn.Module):
    """Cross-stage-partial block with three convolutions (YOLOv5): half the width passes through `n` inner blocks.

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

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        if inner < 1:
            raise ValueError(f"{type(self).__name__}: e = {e} of {c2} channels gives the inner blocks none; e must be >= {1 / c2:.3g}")
        self.cv1 = Conv(c1, inner)
        self.cv2 = Conv(c1, inner)
        self.cv3 = Conv(2 * inner, c2)
        self.m = self.inside(inner, n, shortcut, g)

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:
        """The inner blocks, (B, width, H, W) -> the same; overridden by subclasses."""
        return bottlenecks(width, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(join(self.m(self.cv1(x)), self.cv2(x)))


@register(stack, example=(48,))
class C3x(C3):
    """`C3` with crossed convolutions inside (YOLOv5).

    Args:
        c1, c2, n, shortcut, g, e: as in `C3`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(CrossConv(width, width, 3, 1, g, 1.0, shortcut) for _ in range(n)))


@register(stack, example=(48,))
class C3TR(C3):
    """`C3` with a transformer inside (YOLOv5).

    Args:
        c1, c2, n, shortcut, g, e: as in `C3`; shortcut and g have no effect.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:  # noqa: ARG002
        return TransformerBlock(width, width, 4, n)


@register(stack, example=(64,))
class C3Ghost(C3):
    """`C3` with ghost bottlenecks inside (YOLOv5).

    Args:
        c1, c2, n, shortcut, g, e: as in `C3`; shortcut and g have no effect.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:  # noqa: ARG002
        return nn.Sequential(*(GhostBottleneck(width, width) for _ in range(n)))


@register(project, example=(48, (3, 5)))
class C3SPP(C3):
    """`C3` with spatial pyramid pooling inside (YOLOv5).

    Args:
        c1: input width.
        c2: output width.
        k: kernel sizes of the pools.
        n, shortcut, g: accepted for YOLOv5's argument order; there is one inner block.
        e: inner width / c2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(
        self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13), n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)
        self.m = SPP(int(c2 * e), int(c2 * e), k)


@register(stack, example=(48,))
class BottleneckCSP(nn.Module):
    """Cross-stage-partial block (Wang et al., CVPRW 2020) of YOLOv5 up to 3.1.

    Args:
        c1, c2, n, shortcut, g, e: as in `C3`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        self.cv1 = Conv(c1, inner)
        self.cv2 = nn.Conv2d(c1, inner, 1, bias=False)
        self.cv3 = nn.Conv2d(inner, inner, 1, bias=False)
        self.cv4 = Conv(2 * inner, c2)
        self.bn: nn.Module = batch_norm(2 * inner)
        self.act = nn.SiLU()
        self.m = bottlenecks(inner, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        y = join(self.cv3(self.m(self.cv1(x))), self.cv2(x))
        return self.cv4(self.act(self.bn(y)))

    def fuse(self) -> None:
        """Fold the batch norm into both convolutions before it."""
        if isinstance(self.bn, nn.BatchNorm2d):
            fold_joined(self.bn, self.cv3, self.cv2)
            self.bn = nn.Identity()
