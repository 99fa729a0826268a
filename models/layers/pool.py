"""Spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor, nn

from models.arguments import multiple, odd
from models.layers.conv import Conv, batch_norm
from models.layers.join import join
from models.layers.named_widths import project_or_pair
from models.registry import project, register, untouched


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


@register(project_or_pair, example=(48, 5))
class SimSPPF(nn.Module):
    """`SPPF` with ReLU, of YOLOv6 (Li et al., arXiv:2209.02976).

    Args:
        c1, c2, k: as in `SPPF`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__()
        odd(self, k=k)
        self.cv1 = Conv(c1, c1 // 2, act=nn.ReLU())
        self.cv2 = Conv(c1 // 2 * 4, c2, act=nn.ReLU())
        self.m = nn.MaxPool2d(k, 1, k // 2)

    forward = SPPF.forward


class _Pyramid(nn.Module):
    """The branch of `SPPCSPC` that pools: 1x1, 3x3, 1x1, pools beside their input, 1x1, 3x3."""

    def __init__(self, c1: int, inner: int, k: Sequence[int], g: int = 1) -> None:
        super().__init__()
        for size in k:
            odd(self, k=size)
        self.before = nn.Sequential(Conv(c1, inner, g=g), Conv(inner, inner, 3, g=g), Conv(inner, inner, g=g))
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)
        self.after = nn.Sequential(Conv((len(k) + 1) * inner, inner, g=g), Conv(inner, inner, 3, g=g))

    def pooled(self, x: Tensor) -> list[Tensor]:
        """`x` under each pool."""
        return [pool(x) for pool in self.m]

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(join(x, *self.pooled(x)))


class _SuccessivePyramid(_Pyramid):
    """`_Pyramid`, each pool of the result of the one before."""

    def pooled(self, x: Tensor) -> list[Tensor]:
        """`x` under one pool, under two, ..."""
        return list(accumulate(self.m, lambda y, pool: pool(y), initial=x))[1:]


@register(project, example=(48, (3, 5)))
class SPPCSPC(nn.Module):
    """Spatial pyramid pooling in one branch of a cross-stage-partial block (YOLOv7, Wang et al., CVPR 2023, arXiv:2207.02696).

    Two 3x3 and six 1x1 of the full width and the pools, of which the large ones are slow on a CPU, make it as expensive as six 3x3
    convolutions; `SPPFCSPC` computes the same in less.

    Args:
        c1: input width.
        c2: output width.
        k: odd kernel sizes of the pools.
        g: groups of all convolutions.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    branch = _Pyramid

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13), g: int = 1) -> None:
        super().__init__()
        multiple(self, g, c1=c1, c2=c2)
        self.pyramid = self.branch(c1, c2, k, g)
        self.bypass = Conv(c1, c2, g=g)
        self.out = Conv(2 * c2, c2, g=g)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(join(self.pyramid(x), self.bypass(x)))


@register(project, example=(48, 5))
class SPPFCSPC(SPPCSPC):
    """`SPPCSPC` (YOLOv7) with kernels k, 2k - 1 and 3k - 2, computed faster, as `SPPF`.

    Args:
        c1: input width.
        c2: output width.
        k: odd kernel size.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    branch = _SuccessivePyramid

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__(c1, c2, (k, k, k))


@register(project, example=(48,))
class SPPCSPC_group(SPPCSPC):  # noqa: N801  the name in YAML files
    """`SPPCSPC` (YOLOv7) with four groups in all convolutions.

    Args:
        c1, c2, k, g: as in `SPPCSPC`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)

    Raises:
        ValueError: groups that do not divide both widths.
    """

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13), g: int = 4) -> None:
        super().__init__(c1, c2, k, g)


@register(project, example=(48, (3, 5)))
class SPPCSP(nn.Module):
    """`SPPCSPC` with one batch norm and Mish for both branches (Scaled-YOLOv4, Wang et al., CVPR 2021, arXiv:2011.08036).

    Its convolutions and pools, and so its cost, are those of `SPPCSPC`.

    Args:
        c1, c2, k: as in `SPPCSPC`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        self.pyramid = _Pyramid(c1, c2, k)
        self.bypass = nn.Conv2d(c1, c2, 1, bias=False)
        self.bn = batch_norm(2 * c2)
        self.act = nn.Mish()
        self.out = Conv(2 * c2, c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.bn(join(self.pyramid(x), self.bypass(x)))))


@register(untouched, example=(2,))
class MP(nn.MaxPool2d):
    """Max-pool of stride k, whose last window may be cut off, as wide as a convolution of that stride (YOLOv7).

    Args:
        k: kernel size and stride.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / k), ceil(W / k))
    """

    def __init__(self, k: int = 2) -> None:
        super().__init__(k, k, ceil_mode=True)


@register(untouched, example=(5,))
class SP(nn.MaxPool2d):
    """Max-pool of odd size that keeps the size of the map at stride 1 (YOLOv7-tiny).

    Args:
        k: kernel size.
        s: stride.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, k: int = 3, s: int = 1) -> None:
        odd(self, k=k)
        super().__init__(k, s, k // 2)
