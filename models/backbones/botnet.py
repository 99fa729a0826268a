"""BoTNet as a backbone (Srinivas et al., CVPR 2021, arXiv:2101.11605)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.bot import MHSA, init_bot_weights
from models.attention.position import pair
from models.backbones.pretrained import load_pretrained
from models.backbones.resnet import ResidualPyramid, published_widths, residual_widths
from models.layers.conv import fold_members
from models.layers.residual import ResidualBottleneck
from models.registry import pyramid, register

Side = tuple[int, int] | int


class _Convolution(nn.Module):
    """The middle of c2 to c4: 3x3 convolution, batch norm, ReLU."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))

    def fuse(self) -> None:
        fold_members(self, ("conv", "bn"))


class _Attention(nn.Module):
    """The middle of c5: attention, average pool at stride 2, batch norm, ReLU."""

    def __init__(self, width: int, stride: int, fmap_size: Side) -> None:
        super().__init__()
        self.stride = stride
        self.mhsa = MHSA(width, 4, None, fmap_size)
        self.bn: nn.Module = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mhsa(x)
        if self.stride == 2:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
        return F.relu(self.bn(x))

    def fuse(self) -> None:
        if isinstance(self.bn, nn.BatchNorm2d):
            self.mhsa.absorb(self.bn)
            self.bn = nn.Identity()


@register(pyramid(residual_widths, scaled=True), example=(8, (1, 1, 1, 2), (2, 2)), inputs=(3,))
class BoTNet(ResidualPyramid):
    """ResNet whose three 3x3 convolutions of c5 are self-attention; everything else is a ResNet (section 4, table 1).

    The first attention is before the stride and so has the map of stride 16 as input. There are no official weights; `pretrained`
    accepts a checkpoint with these state_dict keys.

    Args:
        channels: width of the image.
        stem: width of the stem, 64 in the paper; the others follow. In a YAML it is scaled by the model's width.
        depths: blocks per stage.
        fmap_size: native map of the first attention; the default is that of 640 pixels.
        pretrained: a checkpoint.
        drop_path: stochastic depth of the last block, growing linearly from 0.

    Shape:
        (B, channels, H, W) -> four maps of strides 4, 8, 16, 32 and widths 256, 512, 1024, 2048 at stem 64
    """

    def __init__(
        self,
        channels: int = 3,
        stem: int = 64,
        depths: Sequence[int] = (3, 4, 6, 3),
        fmap_size: Side = (40, 40),
        pretrained: str | None = None,
        drop_path: float = 0.0,
    ) -> None:
        height, side = pair(fmap_size)
        half = ((height + 1) // 2, (side + 1) // 2)

        def block(stage: int, i: int, width: int, out: int, stride: int) -> nn.Module:  # noqa: ARG001
            inner = out // 4
            middle = _Attention(inner, stride, fmap_size if stride == 2 else half) if stage == 4 else _Convolution(inner, stride)
            return ResidualBottleneck(width, inner, out, stride, middle)

        super().__init__(channels, depths, block, stem, drop_path=drop_path)
        init_bot_weights(self)
        if pretrained:
            load_pretrained(self, pretrained, unused=("fc.",))


@register(pyramid(published_widths), inputs=(3,))
def botnet50(channels: int = 3, fmap_size: Side = (40, 40), pretrained: str | None = None, drop_path: float = 0.0) -> BoTNet:
    """BoTNet-50."""
    return BoTNet(channels, fmap_size=fmap_size, pretrained=pretrained, drop_path=drop_path)


@register(pyramid(published_widths), inputs=(3,))
def botnet101(channels: int = 3, fmap_size: Side = (40, 40), pretrained: str | None = None, drop_path: float = 0.0) -> BoTNet:
    """BoTNet-101."""
    return BoTNet(channels, depths=(3, 4, 23, 3), fmap_size=fmap_size, pretrained=pretrained, drop_path=drop_path)


@register(pyramid(published_widths), inputs=(3,))
def botnet152(channels: int = 3, fmap_size: Side = (40, 40), pretrained: str | None = None, drop_path: float = 0.0) -> BoTNet:
    """BoTNet-152."""
    return BoTNet(channels, depths=(3, 8, 36, 3), fmap_size=fmap_size, pretrained=pretrained, drop_path=drop_path)
