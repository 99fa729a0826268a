"""Blocks of the light networks with hard swish: MobileNetV3, PP-LCNet, PicoDet; and ShuffleNetV2's first layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor, nn

from models.layers.conv import Conv
from models.registry import LayerPlan, Row, Scale, Width, project, register


@register(project, example=(48, 3, 2))
class CBH(Conv):
    """Convolution, batch norm, hard swish (Howard et al., ICCV 2019, arXiv:1905.02244).

    Args:
        c1: input width.
        c2: output width.
        k: kernel size.
        s: stride.
        g: groups.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')
    """

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1) -> None:
        super().__init__(c1, c2, k, s, g=g, act=nn.Hardswish())


def _stride_only(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """``[width, stride]``: a 3x3."""
    return project(dataclasses.replace(row, args=(*row.args[:1], 3, *row.args[1:])), inputs, scale)


register(_stride_only, name="conv_bn_hswish", example=(48, 2))(CBH)


class HardGate(nn.Module):
    """Squeeze and excitation with a hard sigmoid and a quarter of the width inside (MobileNetV3, arXiv:1905.02244, section 5.3).

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 4, 1)
        self.gate = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3), keepdim=True))


@register(project, example=(48, 5, 2, True))
class DepthSepConv(nn.Module):
    """PP-LCNet's block: depthwise k x k, a gate in the last stages, pointwise (Cui et al., arXiv:2109.15099, figure 2).

    Args:
        c1: input width.
        c2: output width.
        k: kernel size of the depthwise convolution.
        s: stride.
        se: squeeze and excitation between the two.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s)), odd k
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, se: bool = False) -> None:
        super().__init__()
        self.depthwise = CBH(c1, c1, k, s, c1)
        self.se = HardGate(c1) if se else nn.Identity()
        self.pointwise = CBH(c1, c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.se(self.depthwise(x)))


register(project, name="DWConvblock", example=(48, 5, 2))(DepthSepConv)


def _stride_first(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """``[width, stride, kernel, se]``."""
    args = row.args if len(row.args) != 2 else (*row.args, 3)
    return project(dataclasses.replace(row, args=(*args[:1], *args[2:3], *args[1:2], *args[3:])), inputs, scale)


register(_stride_first, name="LC_Block", example=(48, 2, 5, True))(DepthSepConv)


@register(project, example=(48, 1, 0.2))
class Dense(nn.Module):
    """PP-LCNet's last convolution before its classifier: without norm, hard swish, dropout (arXiv:2109.15099, section 3.4).

    Args:
        c1: input width.
        c2: output width.
        k: kernel size.
        p: probability of dropping a value in training.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), odd k
    """

    def __init__(self, c1: int, c2: int, k: int = 1, p: float = 0.2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, padding=k // 2, bias=False)
        self.act = nn.Hardswish()
        self.drop = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.act(self.conv(x)))


@register(project, example=(48,))
class Conv_maxpool(nn.Module):  # noqa: N801  the name in YAML files
    """A 3x3 of stride 2 with ReLU, a 3x3 max-pool of stride 2: ShuffleNetV2's start (Ma et al., ECCV 2018, arXiv:1807.11164, table 5).

    Args:
        c1: input width.
        c2: output width.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / 4), ceil(W / 4))
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.conv = Conv(c1, c2, 3, 2, act=nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x))
