"""SE-CoTNetD as a backbone: CoT in the deep stages, squeeze-and-excitation in the others (Li et al., TPAMI 2022, arXiv:2107.12292)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.cot import CoT
from models.backbones.cotnet import classification_names
from models.backbones.pretrained import load_pretrained
from models.backbones.resnet import ResidualPyramid, publish, residual_widths
from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm
from models.layers.residual import ResidualBottleneck, init_resnet_weights
from models.registry import pyramid, register


class SqueezedConv(nn.Module):
    """3x3 convolution, batch norm, SiLU, then a gate per channel from the means of all channels: split attention of one branch.

    Args:
        width: width of input and output.
        stride: of the convolution.

    Shape:
        (B, width, H, W) -> (B, width, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        squeezed = max(width // 4, 32)
        self.conv = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn0: nn.Module = nn.BatchNorm2d(width)
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.bn1: nn.Module = PooledBatchNorm(squeezed)
        self.fc2 = nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.bn0(self.conv(x)))
        gate = self.fc2(F.silu(self.bn1(self.fc1(x.mean((2, 3), keepdim=True)))))
        return x * gate.sigmoid()

    def fuse(self) -> None:
        """Fold both batch norms."""
        fold_members(self, ("conv", "bn0"), ("fc1", "bn1"))


class BlurPool(nn.Module):
    """Halve a map after a binomial 3x3 filter (Zhang, ICML 2019, arXiv:1904.11486), mirrored at the border.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)), any H, W >= 1
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", (line[:, None] * line)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):  # indices 1, 0, 1, ..., n - 1, n - 2; all zero for n = 1
            last = x.shape[axis] - 1
            places = torch.arange(-1, last + 2, device=x.device).abs()
            x = x.index_select(axis, (last - (last - places).abs()).clamp(min=0))
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.to(x.dtype).expand(channels, 1, 3, 3), stride=2, groups=channels)


class _Bottleneck(ResidualBottleneck):
    """A bottleneck around CoT or a squeezed convolution, whose shortcut is an average pool and a 1x1 convolution (ResNet-D)."""

    def __init__(self, channels: int, out: int, stride: int, contextual: bool, blur: bool) -> None:
        width = out // 4
        halved = stride == 2
        middle: nn.Module = CoT(width) if contextual else SqueezedConv(width, 1 if blur else stride)
        super().__init__(channels, width, out, stride, middle)
        if self.downsample is not None:
            pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if halved else nn.Identity()
            self.downsample = nn.Sequential(pool, nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))
        self.pooled = halved and contextual and not blur
        self.blur = BlurPool() if halved and blur else None

    def before(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 2, 1) if self.pooled else x

    def after(self, x: Tensor) -> Tensor:
        return x if self.blur is None else self.blur(x)


@register(pyramid(residual_widths, scaled=True), example=(8, (1, 1, 2, 1)), inputs=(3,))
class SECoTNetD(ResidualPyramid):
    """SE-CoTNetD: squeezed convolutions in stages 1 and 2, alternating with CoT in stage 3, CoT in stage 4.

    A deep stem of three convolutions without a maximum pool: every stage begins with stride 2.

    Args:
        channels: width of the image.
        stem: unit of the widths, 64 in the paper. In a YAML it is scaled by the model's width.
        depths: blocks per stage.
        wide: a stem of widths 64, 64, 128 instead of 32, 32, 64.
        blur: `BlurPool` instead of a strided convolution or an average pool.
        pretrained: an authors' checkpoint, of classification or of a detector.
        drop_path: stochastic depth of the last block, growing linearly from 0; 0.1 in the authors' classification (0.15 at depth 152), none
            in their detectors.

    Shape:
        (B, channels, H, W) -> four maps of strides 4, 8, 16, 32 and widths 256, 512, 1024, 2048 at stem 64
    """

    def __init__(
        self,
        channels: int = 3,
        stem: int = 64,
        depths: Sequence[int] = (3, 4, 6, 3),
        wide: bool = False,
        blur: bool = False,
        pretrained: str | None = None,
        drop_path: float = 0.0,
    ) -> None:
        def block(stage: int, i: int, width: int, out: int, stride: int) -> nn.Module:
            return _Bottleneck(width, out, stride, stage == 4 or (stage == 3 and i % 2 == 0), blur)

        narrow, width = (stem, 2 * stem) if wide else (stem // 2, stem)
        first = [nn.Conv2d(channels, narrow, 3, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
        second = [nn.Conv2d(narrow, narrow, 3, 1, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
        convolutions = nn.Sequential(*first, *second, nn.Conv2d(narrow, width, 3, 1, 1, bias=False))
        super().__init__(channels, depths, block, stem, (convolutions, width), drop_path)
        init_resnet_weights(self)
        if pretrained:
            load_pretrained(self, pretrained, unused=("fc.",), convert=classification_names)


se_cotnetd_50 = publish("se_cotnetd_50", SECoTNetD)
se_cotnetd_101 = publish("se_cotnetd_101", SECoTNetD, depths=(3, 4, 23, 3), wide=True)
se_cotnetd_152 = publish("se_cotnetd_152", SECoTNetD, depths=(3, 8, 36, 3), wide=True, blur=True)  # for 256 pixels and more
