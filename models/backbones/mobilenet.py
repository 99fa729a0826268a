"""MobileNetV2 with attention in its blocks, where coordinate attention was introduced (Hou et al., CVPR 2021, arXiv:2103.02907)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from models.attention.cbam import CBAM
from models.attention.coord import CoordAtt
from models.attention.se import SE
from models.backbones.pretrained import State, load_pretrained
from models.registry import pyramid, register

Kind = Literal["ca", "se", "cbam"] | None

# Expansion, width at a stem of 32, blocks, stride (Sandler et al., CVPR 2018, arXiv:1801.04381, table 2).
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_OUTPUTS = (3, 6, 13, 17)
"""The last blocks of strides 4, 8, 16 and 32."""


def _attention(kind: Kind, channels: int) -> list[nn.Module]:
    if kind == "ca":
        return [CoordAtt(channels, 32)]
    if kind == "se":
        return [SE(channels, 24, bias=True, least=8)]
    if kind == "cbam":
        return [CBAM(channels, 24)]
    if kind is not None:
        raise ValueError(f"MobileNetV2: attention must be 'ca', 'se', 'cbam' or None, not {kind!r}")
    return []


def _conv(channels: int, out: int, size: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), *([nn.ReLU6(inplace=True)] if act else [])]


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, depthwise 3x3, attention, narrow (arXiv:1801.04381, figure 4).

    Args:
        channels: width of the input.
        out: width of the output.
        stride: 1 or 2.
        expansion: factor of the inner width; a block of factor 1 has no attention.
        attention: kind of attention after the depthwise convolution.

    Shape:
        (B, channels, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, channels: int, out: int, stride: int, expansion: int, attention: Kind) -> None:
        super().__init__()
        inner = channels * expansion
        widen = _conv(channels, inner) if expansion != 1 else []
        middle = _attention(attention, inner) if expansion != 1 else []
        self.conv = nn.Sequential(*widen, *_conv(inner, inner, 3, stride, inner), *middle, *_conv(inner, out, act=False))
        self.add = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.add else self.conv(x)


def _scaled(width: int, stem: int) -> int:
    """A stage's width for a stem: the nearest multiple of 8, at least 8 and at most 10 % narrower."""
    exact = width * stem / 32
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def mobilenet_widths(channels: int = 3, stem: int = 32, *_: object, **__: object) -> tuple[int, ...]:  # noqa: ARG001
    """Widths of the outputs, for the constructor's arguments."""
    return tuple(_scaled(width, stem) for width in (24, 32, 96, 320))


@register(pyramid(mobilenet_widths, scaled=True), example=(8,), inputs=(3,))
class MobileNetV2(nn.Module):
    """MobileNetV2 with attention after the depthwise convolution of its 16 widening blocks (arXiv:2103.02907, figure 3).

    Args:
        channels: width of the image.
        stem: width of the stem, 32 in the paper; the others follow. In a YAML it is scaled by the model's width.
        attention: "ca" (reduction 32), "se" or "cbam" (reduction 24), or None.
        pretrained: the authors' checkpoint; its keys for coordinate attention are renamed.

    Shape:
        (B, channels, H, W) -> four maps of strides 4, 8, 16, 32 and widths 24, 32, 96, 320 at stem 32

    Raises:
        ValueError: an unknown attention.
    """

    def __init__(self, channels: int = 3, stem: int = 32, attention: Kind = "ca", pretrained: str | None = None) -> None:
        super().__init__()
        _attention(attention, 8)
        self.features = nn.ModuleList([nn.Sequential(*_conv(channels, stem, 3, 2))])
        width = stem
        for expansion, nominal, blocks, stride in _STAGES:
            out = _scaled(nominal, stem)
            for i in range(blocks):
                self.features.append(InvertedResidual(width, out, stride if i == 0 else 1, expansion, attention))
                width = out
        if pretrained:
            load_pretrained(self, pretrained, unused=("conv.", "classifier."), convert=_renamed)

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for i, block in enumerate(self.features):
            x = block(x)
            if i in _OUTPUTS:
                outputs.append(x)
        return outputs


def _renamed(state: State) -> State:
    """The authors' network calls the second and third convolution of coordinate attention conv2 and conv3."""
    return {name.replace(".conv2.", ".conv_h.").replace(".conv3.", ".conv_w."): tensor for name, tensor in state.items()}


@register(pyramid(lambda *_, **__: (24, 32, 96, 320)), inputs=(3,))
def mobilenetv2_ca(channels: int = 3, attention: Kind = "ca", pretrained: str | None = None) -> MobileNetV2:
    """MobileNetV2 of width 1 with coordinate attention, another one, or none."""
    return MobileNetV2(channels, 32, attention, pretrained)
