"""PP-YOLO's and PP-YOLOE's blocks (Long et al., arXiv:2007.12099; Xu et al., arXiv:2203.16250)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import Conv
from models.layers.join import join
from models.layers.merged import BranchedConv
from models.layers.named_widths import project_or_pair
from models.registry import LayerPlan, Row, Scale, Width, only, preserve, register


@register(project_or_pair, example=(48, 3, 2))
class ConvBNLayer(Conv):
    """`Conv` with the arguments in PP-YOLOE's order.

    Args:
        c1: input width.
        c2: output width.
        k: kernel size.
        s: stride.
        g: groups.
        p: padding; None keeps the size at stride 1.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, g: int = 1, p: int | None = None) -> None:
        super().__init__(c1, c2, k, s, p, g)


def coordinates(x: Tensor) -> Tensor:
    """Column and row of each pixel, from -1 at the first to 1 at the last, (B, 2, H, W)."""
    B, _, H, W = x.shape
    column = torch.arange(W, device=x.device) * 2 / max(W - 1, 1) - 1
    row = torch.arange(H, device=x.device) * 2 / max(H - 1, 1) - 1
    return torch.stack((column.expand(H, W), row[:, None].expand(H, W))).to(x.dtype).expand(B, 2, H, W)


@register(project_or_pair, example=(48, 3, 1))
class CoordConv(nn.Module):
    """Convolution of the map and two maps of its pixels' coordinates (Liu et al., NeurIPS 2018, arXiv:1807.03247), with batch norm.

    LeakyReLU(0.1) as in PP-YOLO.

    Args:
        c1: input width.
        c2: output width.
        k: kernel size.
        p: padding; None keeps the size.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, k: int = 1, p: int | None = None) -> None:
        super().__init__()
        self.conv = Conv(c1 + 2, c2, k, p=p, act=nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat((x, coordinates(x)), 1))


class DropBlock(nn.Module):
    """In training, zero blocks of pixels, and scale the rest to the same sum of ones (Ghiasi et al., NeurIPS 2018, arXiv:1810.12890).

    Args:
        size: side of a block.
        probability: share of the pixels that are dropped, about.

    Shape:
        (B, C, H, W) -> (B, C, H, W); unchanged where a block does not fit
    """

    def __init__(self, size: int = 3, probability: float = 0.1) -> None:
        super().__init__()
        self.size, self.probability = size, probability

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        inside = H - self.size + 1, W - self.size + 1  # where a block's corner may lie
        if not self.training or min(inside) < 1:
            return x
        rate = self.probability / self.size**2 * (H * W) / (inside[0] * inside[1])  # eq. 1
        corners = x.new_empty(B, C, *inside).bernoulli_(min(rate, 1.0))
        keep = 1 - F.max_pool2d(F.pad(corners, [self.size - 1] * 4), self.size, 1)
        return x * keep * (keep.numel() / keep.sum(dtype=torch.float32).clamp(min=1)).to(x.dtype)


def _actual_or_nominal(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """`preserve`, whose first argument may repeat the actual width too: PP-YOLO's backbones are not scaled."""
    if row.args and row.args[0] == only(row, inputs):
        scale = dataclasses.replace(scale, width=1.0, divisor=1)
    return preserve(row, inputs, scale)


@register(_actual_or_nominal, example=(True, True))
class PPConvBlock(nn.Module):
    """A 3x3 to twice the width, DropBlock, a 1x1 back: two of them stand in each level of PP-YOLO's neck (arXiv:2007.12099, section 3.2).

    The wide 3x3 has twice the weights of one that keeps the width, and takes more than 2x its time.

    Args:
        channels: width C of input and output.
        drop: DropBlock in between.
        coord: the 1x1 is a `CoordConv`.

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, drop: bool = False, coord: bool = True) -> None:
        super().__init__()
        self.widen = Conv(channels, 2 * channels, 3, act=nn.LeakyReLU(0.1))
        self.drop = DropBlock() if drop else nn.Identity()
        self.narrow = CoordConv(2 * channels, channels) if coord else Conv(2 * channels, channels, act=nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.drop(self.widen(x)))


class RepRes(nn.Module):
    """A 3x3 and a RepVGG block without the identity branch: PP-YOLOE's basic block, without a shortcut (arXiv:2203.16250, figure 3c).

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels, 3)
        self.conv2 = BranchedConv(channels, channels, (3, 1), identity=False)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.conv1(x)))


@register(project_or_pair, example=(48, 2))
class ResSPP(nn.Module):
    """The branch of PP-YOLOE's deepest stage of the neck that has the pyramid pooling: 1x1, n blocks, pools after the middle one.

    Each block has two 3x3 convolutions of the full width, beside a 1x1 from four times the width after the pools: several times a 3x3
    convolution's time.

    Args:
        c1: input width.
        c2: output width.
        n: `RepRes` blocks, 3 in PP-YOLOE-l.
        k: odd kernel sizes of the pools.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 3, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        positive(self, n=n)
        self.conv = Conv(c1, c2)
        self.before = nn.Sequential(*(RepRes(c2) for _ in range((n + 1) // 2)))
        self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)
        self.merge = Conv((len(k) + 1) * c2, c2)
        self.after = nn.Sequential(*(RepRes(c2) for _ in range(n // 2)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(self.conv(x))
        return self.after(self.merge(join(x, *(pool(x) for pool in self.pools))))
