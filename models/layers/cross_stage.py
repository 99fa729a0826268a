"""The cross-stage-partial blocks of Scaled-YOLOv4, YOLOR and YOLOv7, and YOLOAir's C3C2."""

from __future__ import annotations

import math

from torch import Tensor, nn

from models.arguments import positive
from models.layers.conv import Conv, batch_norm
from models.layers.csp import bottlenecks
from models.layers.join import join
from models.registry import register, stack


class Res(nn.Module):
    """ResNet's bottleneck of three `Conv`, 1x1, 3x3 and 1x1, with a residual; with groups, ResNeXt's.

    Args:
        channels: width C of input and output.
        shortcut: add the input.
        g: groups of the 3x3.
        e: inner width as a share of C.

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, shortcut: bool, g: int, e: float) -> None:
        super().__init__()
        inner = int(channels * e)
        positive(self, inner=inner)
        self.m = nn.Sequential(Conv(channels, inner), Conv(inner, inner, 3, g=math.gcd(inner, g)), Conv(inner, channels))
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.m(x) if self.add else self.m(x)


class _CrossStage(nn.Module):
    """What the blocks have in common: their inner blocks."""

    res: float = 0
    """Inner width of `Res` blocks as a share of theirs; 0 for `Bottleneck`s."""

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:
        """The inner blocks, (B, width, H, W) -> the same."""
        if self.res:
            return nn.Sequential(*(Res(width, shortcut, g, self.res) for _ in range(n)))
        return bottlenecks(width, n, shortcut, g)


@register(stack, example=(48,))
class BottleneckCSPB(_CrossStage):
    """Cross-stage-partial block that parts after its first convolution, at full width (YOLOv7's CSPB; arXiv:2011.08036, figure 2b).

    Its convolutions have 14 C^2 weights a pixel, a 3x3 convolution 9: it takes 2x its time.

    Args:
        c1: input width.
        c2: output width.
        n: inner blocks.
        shortcut: residuals in the inner blocks.
        g: groups of the inner blocks.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2)
        self.cv2 = Conv(c2, c2)
        self.cv3 = Conv(2 * c2, c2)
        self.m = self.inside(c2, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv3(join(self.m(x), self.cv2(x)))


@register(stack, example=(48,))
class BottleneckCSPC(_CrossStage):
    """`C3` with a convolution after the inner blocks (YOLOv7's CSPC).

    Args:
        c1: input width.
        c2: output width.
        n: inner blocks.
        shortcut: residuals in the inner blocks.
        g: groups of the inner blocks.
        e: inner width as a share of c2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        positive(self, inner=inner)
        self.cv1 = Conv(c1, inner)
        self.cv2 = Conv(c1, inner)
        self.cv3 = Conv(inner, inner)
        self.cv4 = Conv(2 * inner, c2)
        self.m = self.inside(inner, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv4(join(self.cv3(self.m(self.cv1(x))), self.cv2(x)))


@register(stack, example=(48,))
class ResCSPB(BottleneckCSPB):
    """`BottleneckCSPB` with ResNet's bottlenecks inside (YOLOv7).

    Args:
        c1, c2, n, shortcut, g: as in `BottleneckCSPB`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    res = 0.5


@register(stack, example=(48,))
class ResCSPC(BottleneckCSPC):
    """`BottleneckCSPC` with ResNet's bottlenecks inside (YOLOv7).

    Args:
        c1, c2, n, shortcut, g, e: as in `BottleneckCSPC`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    res = 0.5


@register(stack, example=(64,))
class ResXCSPB(ResCSPB):
    """`ResCSPB` with ResNeXt's bottlenecks: 32 groups, or as many as divide the width; the inner ones are not narrower (YOLOv7).

    Args:
        c1, c2, n, shortcut, g: as in `BottleneckCSPB`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    res = 1.0

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 32) -> None:
        super().__init__(c1, c2, n, shortcut, g)


@register(stack, example=(64,))
class ResXCSPC(ResCSPC):
    """`ResCSPC` with ResNeXt's bottlenecks: 32 groups, or as many as divide the width; the inner ones are not narrower (YOLOv7).

    Args:
        c1, c2, n, shortcut, g, e: as in `BottleneckCSPC`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    res = 1.0

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 32, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, shortcut, g, e)


class _JoinedNorm(_CrossStage):
    """One batch norm and activation for both branches, (B, 2 * inner, H, W) -> (B, c2, H, W)."""

    def __init__(self, inner: int, c2: int, act: nn.Module) -> None:
        super().__init__()
        positive(self, inner=inner)
        self.bn = batch_norm(2 * inner)
        self.act = act
        self.out = Conv(2 * inner, c2)

    def joined(self, a: Tensor, b: Tensor) -> Tensor:
        """Norm, activation and last convolution of both branches."""
        return self.out(self.act(self.bn(join(a, b))))


@register(stack, example=(48,))
class BottleneckCSP2(_JoinedNorm):
    """`BottleneckCSPB` with one batch norm and Mish for both branches: Scaled-YOLOv4's neck (Wang et al., CVPR 2021, arXiv:2011.08036).

    Args:
        c1, c2, n, shortcut, g: as in `BottleneckCSPB`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1) -> None:
        super().__init__(c2, c2, nn.Mish())
        self.cv1 = Conv(c1, c2)
        self.cv2 = nn.Conv2d(c2, c2, 1, bias=False)
        self.m = self.inside(c2, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.joined(self.m(x), self.cv2(x))


@register(stack, example=(48,))
class BottleneckCSPF(_JoinedNorm):
    """`BottleneckCSP` without a convolution after the inner blocks: fusion first (YOLOR, Wang et al., arXiv:2105.04206).

    Args:
        c1, c2, n, shortcut, g, e: as in `BottleneckCSPC`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        inner = int(c2 * e)
        super().__init__(inner, c2, nn.SiLU())
        self.cv1 = Conv(c1, inner)
        self.cv2 = nn.Conv2d(c1, inner, 1, bias=False)
        self.m = self.inside(inner, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(self.m(self.cv1(x)), self.cv2(x))


@register(stack, example=(48,))
class C3C2(_CrossStage):
    """`C3` with one convolution for both branches: what passes by has neither norm nor activation (YOLOAir; no paper).

    Args:
        c1, c2, n, shortcut, g, e: as in `BottleneckCSPC`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        positive(self, inner=inner)
        self.conv = nn.Conv2d(c1, inner, 1, bias=False)
        self.bn = batch_norm(inner)
        self.act = nn.SiLU()
        self.cv1 = Conv(2 * inner, c2, act=nn.Mish())
        self.m = self.inside(inner, n, shortcut, g)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.cv1(join(self.m(self.act(self.bn(y))), y))
