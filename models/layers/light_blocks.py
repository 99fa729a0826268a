"""Blocks of light networks: MBConv, ConvMixer, FasterNet's and StarNet's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.layers.conv import Conv, batch_norm
from models.layers.csp import C3
from models.registry import preserve, project, register, stack


@register(project, example=(48, 3, 2))
class MBConv(nn.Module):
    """MBConv (Tan & Le, ICML 2019, arXiv:1905.11946): 1x1 to a multiple of the width, depthwise k x k, a gate per channel, 1x1.

    It is MobileNetV2's inverted residual (arXiv:1801.04381) with squeeze and excitation; the input is added where the shape allows it.

    Args:
        c1: input width.
        c2: output width.
        k: side of the depthwise kernel, odd.
        s: stride.
        expansion: inner width / c1.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, expansion: int = 4) -> None:
        super().__init__()
        odd(self, k=k)
        positive(self, s=s, expansion=expansion)
        inner, squeezed = c1 * expansion, max(c1 // 4, 1)
        self.widen = Conv(c1, inner) if expansion > 1 else nn.Identity()
        self.depthwise = Conv(inner, inner, k, s, g=inner)
        self.gate = nn.Sequential(nn.Conv2d(inner, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, inner, 1), nn.Sigmoid())
        self.narrow = Conv(inner, c2, act=False)
        self.add = s == 1 and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.widen(x))
        y = self.narrow(y * self.gate(y.mean((2, 3), keepdim=True)))
        return x + y if self.add else y


@register(preserve, example=(7,))
class ConvMixer(nn.Module):
    """ConvMixer's layer (Trockman & Kolter, arXiv:2201.09792, eq. 2-3): depthwise k x k with a residual, then 1x1.

    Each is followed by GELU, then batch norm.

    Args:
        channels: width C of input and output.
        kernel_size: of the depthwise convolution, odd; 9 in the paper.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, kernel_size: int = 9) -> None:
        super().__init__()
        odd(self, kernel_size=kernel_size)
        self.depthwise = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.bn1(F.gelu(self.depthwise(x)))
        return self.bn2(F.gelu(self.pointwise(x)))


@register(preserve, example=(3,))
class PConv(nn.Module):
    """Partial convolution (Chen et al., CVPR 2023, arXiv:2303.03667, section 3.2): a 3x3 of the first 1/n of the channels.

    Args:
        channels: width C of input and output.
        n: C / channels that are convolved; 4 in the paper.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, n: int = 4) -> None:
        super().__init__()
        positive(self, n=n)
        self.convolved = max(channels // n, 1)
        self.partial_conv3 = nn.Conv2d(self.convolved, self.convolved, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.partial_conv3(x[:, : self.convolved]), x[:, self.convolved :]), 1)


@register(preserve, example=(2,))
class FasterBlock(nn.Module):
    """FasterNet's block (arXiv:2303.03667, figure 4): partial convolution, 1x1 to twice the width, batch norm, ReLU, 1x1; a residual.

    Args:
        channels: width C of input and output.
        ratio: inner width / C.
        n: as in `PConv`.
        act: the activation; null is ReLU, the authors have GELU in T0 and T1.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, ratio: int = 2, n: int = 4, act: nn.Module | None = None) -> None:
        super().__init__()
        positive(self, ratio=ratio)
        self.spatial_mixing = PConv(channels, n)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels * ratio, 1, bias=False),
            nn.BatchNorm2d(channels * ratio),
            nn.ReLU() if act is None else act,
            nn.Conv2d(channels * ratio, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.spatial_mixing(x))


@register(stack, example=(48,))
class C3Faster(C3):
    """`C3` whose inner blocks are `FasterBlock`, as detectors use FasterNet's block.

    Args:
        c1, c2, n, e: as in `C3`; the inner blocks have residuals and no groups.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, e=e)

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:  # noqa: ARG002
        return nn.Sequential(*(FasterBlock(width) for _ in range(n)))


@register(preserve, example=(3,))
class StarBlock(nn.Module):
    """StarNet's block (Ma et al., CVPR 2024, arXiv:2403.19967, figure 3): the product of two linear branches.

    Depthwise 7x7, ReLU6 of one 1x1 times another, 1x1, depthwise 7x7; a residual.

    Three 1x1 of four times the width have 12 C^2 weights a pixel, a 3x3 convolution 9, beside two depthwise 7x7: above 2x its time.

    Args:
        channels: width C of input and output.
        expansion: width of both branches / C; 3 in StarNet-S1, 4 in S2.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, expansion: int = 4) -> None:
        super().__init__()
        positive(self, expansion=expansion)
        inner = channels * expansion
        self.dwconv = nn.Sequential(nn.Conv2d(channels, channels, 7, padding=3, groups=channels), batch_norm(channels))
        self.f1, self.f2 = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
        self.g = nn.Sequential(nn.Conv2d(inner, channels, 1), batch_norm(channels))
        self.dwconv2 = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x)
        return x + self.dwconv2(self.g(F.relu6(self.f1(y)) * self.f2(y)))
