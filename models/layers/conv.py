"""Convolutions: with batch norm and activation, depthwise, transposed, ghost, mixed and crossed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.layers.join import join
from models.layers.norm import PooledBatchNorm, factor_and_shift
from models.registry import LayerPlan, Row, Scale, Width, project, register

Size = int | tuple[int, int]


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with YOLOv5's settings, which the official weights need.

    YOLO's own layers use it; plug-ins keep the settings of their own ``nn.BatchNorm2d(...)``.
    """
    return PooledBatchNorm(channels, eps=1e-3, momentum=0.03)  # at 64 pixels, a map of stride 64 has one


def same_padding(kernel: Size, dilation: int = 1) -> Size:
    """Padding that keeps the size at stride 1, for odd kernels."""
    if isinstance(kernel, int):
        return (dilation * (kernel - 1) + 1) // 2
    return (dilation * (kernel[0] - 1) + 1) // 2, (dilation * (kernel[1] - 1) + 1) // 2


@torch.no_grad()
def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Make a convolution, in place and with bias, compute ``norm(conv(x))`` of evaluation mode."""
    factor, bias = factor_and_shift(norm, conv.bias)
    _set(conv, conv.weight * factor.view(-1, 1, 1, 1), bias)


@torch.no_grad()
def fold_joined(norm: nn.BatchNorm2d, *convs: nn.Conv2d) -> None:
    """Make convolutions without bias, in place and with bias, compute their parts of ``norm(cat([conv(x) for conv in convs], 1))``."""
    widths = [conv.out_channels for conv in convs]
    for conv, factor, shift in zip(convs, *(t.split(widths) for t in factor_and_shift(norm)), strict=True):
        _set(conv, conv.weight * factor.view(-1, 1, 1, 1), shift)


@torch.no_grad()
def fold_before(norm: nn.BatchNorm2d, *convs: nn.Conv2d) -> None:
    """Make 1x1 convolutions, in place and with bias, compute ``conv(norm(x))`` of evaluation mode; padding would not see the shift."""
    factor, shift = factor_and_shift(norm)
    for conv in convs:
        bias = conv.weight.flatten(1) @ shift
        _set(conv, conv.weight * factor.view(-1, 1, 1), bias if conv.bias is None else bias + conv.bias)


def _set(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    trained = conv.weight.requires_grad
    conv.weight, conv.bias = nn.Parameter(weight, requires_grad=trained), nn.Parameter(bias, requires_grad=trained)


def fold_members(module: nn.Module, *pairs: tuple[str, str]) -> None:
    """Fold batch norms into convolutions, in place, given pairs of submodule names; a folded pair stays as it is."""
    for conv_name, norm_name in pairs:
        conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
        if isinstance(norm, nn.BatchNorm2d):
            assert isinstance(conv, nn.Conv2d)
            fold(conv, norm)
            setattr(module, norm_name, nn.Identity())


def _convolution(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """`project`; an activation may stand in sixth place, where it did before YOLOv5 had a dilation: [64, 3, 2, null, 1, nn.ReLU()]."""
    args = row.args
    if len(args) == 6 and isinstance(args[5], bool | nn.Module):
        args = (*args[:5], 1, args[5])
    return project(dataclasses.replace(row, args=args), inputs, scale)


@register(_convolution, example=(48, 3, 2))
class Conv(nn.Module):
    """Convolution, batch norm, activation (YOLOv5).

    Args:
        c1: input width.
        c2: output width.
        k: kernel size.
        s: stride.
        p: padding; None keeps the size at stride 1.
        g: groups.
        d: dilation.
        act: True is the model's activation (SiLU unless its YAML names another), False or None is none; or a module.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')
    """

    def __init__(
        self, c1: int, c2: int, k: Size = 1, s: Size = 1, p: Size | None = None, g: int = 1, d: int = 1, act: bool | nn.Module | None = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, same_padding(k, d) if p is None else p, groups=g, dilation=d, bias=False)
        self.bn: nn.Module = batch_norm(c2)
        self.follows_model = act is True
        self.act: nn.Module = nn.SiLU() if act is True else act if isinstance(act, nn.Module) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))

    def fuse(self) -> None:
        """Fold the batch norm into the convolution, and make the activation in-place.

        In training an in-place SiLU copies its input for the gradient, and is a third slower.
        """
        if isinstance(self.bn, nn.BatchNorm2d):
            fold(self.conv, self.bn)
            self.bn = nn.Identity()
            if hasattr(self.act, "inplace"):
                setattr(self.act, "inplace", True)  # noqa: B010  mypy knows no attributes of a Module


def set_activation(module: nn.Module, make: Callable[[], nn.Module]) -> None:
    """Set the activation of every `Conv` inside `module` that has the model's activation."""
    for part in module.modules():
        if isinstance(part, Conv) and part.follows_model:
            part.act = make()


@register(project, example=(64, 3, 2))
class DWConv(Conv):
    """Depthwise `Conv` (YOLOv5) of gcd(c1, c2) groups.

    Args:
        c1, c2, k, s, d, act: as in `Conv`.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')
    """

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, d: int = 1, act: bool | nn.Module | None = True) -> None:
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, act=act)


@register(project, example=(16, 4, 2, 1))
class DWConvTranspose2d(nn.ConvTranspose2d):
    """Depthwise transposed convolution (YOLOv5).

    Args:
        c1, c2, k, s: as in `Conv`.
        p1: padding.
        p2: extra size of the output.

    Shape:
        (B, c1, H, W) -> (B, c2, (H - 1) * s - 2 * p1 + k + p2, same of W)
    """

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, p1: int = 0, p2: int = 0) -> None:
        super().__init__(c1, c2, k, s, p1, p2, groups=math.gcd(c1, c2))


@register(project, example=(48, 3, 2))
class GhostConv(nn.Module):
    """Ghost convolution (Han et al., CVPR 2020): half the channels by `Conv`, the others from them by a cheap depthwise 5x5.

    Args:
        c1, c2, k, s, g, act: as in `Conv`; c2 is even.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')
    """

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: bool | nn.Module | None = True) -> None:
        super().__init__()
        if c2 % 2:
            raise ValueError(f"c2 = {c2} must be even")
        self.cv1 = Conv(c1, c2 // 2, k, s, g=g, act=act)
        self.cv2 = Conv(c2 // 2, c2 // 2, 5, 1, g=c2 // 2, act=act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return join(y, self.cv2(y))


@register(project, example=(32, 3, 1, 1, 0.5, True))
class CrossConv(nn.Module):
    """A 1 x k convolution and a k x 1 one (YOLOv5).

    Args:
        c1, c2, k, s: as in `Conv`.
        g: groups of the second.
        e: inner width / c2.
        shortcut: add the input where the shape allows it.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, g: int = 1, e: float = 1.0, shortcut: bool = False) -> None:
        super().__init__()
        inner = int(c2 * e)
        self.cv1 = Conv(c1, inner, (1, k), (1, s))
        self.cv2 = Conv(inner, c2, (k, 1), (s, 1), g=g)
        self.add = shortcut and c1 == c2 and s == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


def mixed_widths(c2: int, kernels: Sequence[int], equal: bool) -> list[int]:
    """Split `c2` output channels over `kernels`: into equal numbers, or into numbers that give equal parameter counts."""
    shares = [1.0 if equal else 1.0 / k**2 for k in kernels]
    ends = [round(c2 * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    widths = [b - a for a, b in zip([0, *ends], ends, strict=False)]
    if min(widths) < 1:
        raise ValueError(f"c2 = {c2} is too narrow for kernels {list(kernels)}")
    return widths


@register(project, example=(48, (1, 3, 5), 2))
class MixConv2d(nn.Module):
    """Mixed depthwise convolution (Tan & Le, BMVC 2019): several kernel sizes in parallel, then batch norm and SiLU.

    Args:
        c1: input width.
        c2: output width.
        k: kernel sizes.
        s: stride.
        equal_ch: equal channels for each kernel; False: equal parameters.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')
    """

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (1, 3), s: int = 1, equal_ch: bool = True) -> None:
        super().__init__()
        widths = mixed_widths(c2, k, equal_ch)
        self.m = nn.ModuleList(
            nn.Conv2d(c1, width, kernel, s, kernel // 2, groups=math.gcd(c1, width), bias=False)
            for kernel, width in zip(k, widths, strict=True)
        )
        self.bn: nn.Module = batch_norm(c2)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(torch.cat([conv(x) for conv in self.m], 1)))

    def fuse(self) -> None:
        """Fold the batch norm into all convolutions."""
        if isinstance(self.bn, nn.BatchNorm2d):
            fold_joined(self.bn, *(conv for conv in self.m if isinstance(conv, nn.Conv2d)))
            self.bn = nn.Identity()
