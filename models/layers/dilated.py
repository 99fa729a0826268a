"""Parallel branches of different dilation: ASPP, RFB, RFE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import batch_norm, fold_members
from models.layers.csp import C3
from models.layers.norm import PooledBatchNorm
from models.layers.residual import init_resnet_weights
from models.registry import project, register, stack


def _conv(c1: int, c2: int, k: int = 1, d: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c1, c2, k, padding=d * (k // 2), dilation=d, bias=False), nn.BatchNorm2d(c2), nn.ReLU())


@register(project, example=(48,))
class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., arXiv:1706.05587, section 3.3): a 1x1, three dilated 3x3, the map's mean, then a 1x1.

    Each has batch norm and ReLU, and the output's width; the three cost a 3x3 convolution each.

    Args:
        c1: input width.
        c2: output width.
        d: dilations.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, d: Sequence[int] = (6, 12, 18)) -> None:
        super().__init__()
        for dilation in d:
            positive(self, d=dilation)
        self.branches = nn.ModuleList([_conv(c1, c2), *(_conv(c1, c2, 3, dilation) for dilation in d)])
        self.pool = nn.Sequential(nn.Conv2d(c1, c2, 1, bias=False), PooledBatchNorm(c2), nn.ReLU())
        self.project = _conv((2 + len(d)) * c2, c2)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([*(branch(x) for branch in self.branches), whole], 1))


@register(project, example=(48,))
class BasicRFB(nn.Module):
    """Receptive field block (Liu et al., ECCV 2018, arXiv:1711.07767, figure 4a): branches of growing kernel and dilation, and a shortcut.

    The branches see 3x3, 5x5 and 7x7 pixels before their last, dilated convolution, which has no activation. Joined, projected and scaled
    they are added to a 1x1 of the input. Weights start Kaiming-normal (fan out), as the authors'.

    Args:
        c1: input width; a quarter of it is each branch's.
        c2: output width.
        s: stride.
        scale: factor of the branches.
        vision: v, for dilations v, v + 1 and 2v + 1; the authors have 1 and 2.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, s: int = 1, scale: float = 0.1, vision: int = 1) -> None:
        super().__init__()
        positive(self, s=s, vision=vision)
        inner = max(c1 // 8, 1)
        wide, middle = 2 * inner, max(inner * 3 // 2, 1)
        self.scale = scale
        self.branch0 = nn.Sequential(*_rfb(c1, wide, 1, s), *_rfb(wide, wide, 3, d=vision, act=False))
        self.branch1 = nn.Sequential(*_rfb(c1, inner), *_rfb(inner, wide, 3, s), *_rfb(wide, wide, 3, d=vision + 1, act=False))
        last = _rfb(wide, wide, 3, d=2 * vision + 1, act=False)
        self.branch2 = nn.Sequential(*_rfb(c1, inner), *_rfb(inner, middle, 3), *_rfb(middle, wide, 3, s), *last)
        self.project = nn.Sequential(*_rfb(3 * wide, c2, act=False))
        self.shortcut = nn.Sequential(*_rfb(c1, c2, 1, s, act=False))
        init_resnet_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.cat((self.branch0(x), self.branch1(x), self.branch2(x)), 1)
        return F.relu(self.project(branches) * self.scale + self.shortcut(x))


def _rfb(c1: int, c2: int, k: int = 1, s: int = 1, d: int = 1, act: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(c1, c2, k, s, d * (k // 2), d, bias=False)
    return [conv, nn.BatchNorm2d(c2, momentum=0.01), *([nn.ReLU()] if act else [])]


class RFEM(nn.Module):
    """One bottleneck at dilations 1, 2 and 3, and the input: receptive field enhancement (YOLO-FaceV2, arXiv:2208.02019, section 3.2).

    The three branches share their weights, as in a trident network (Li et al., ICCV 2019, arXiv:1901.01892), so that scales are told apart
    by nothing but their receptive field. Each has a residual; their sum and the input go through batch norm and SiLU.

    Args:
        channels: width C of input and output.
        e: inner width as a share of C.

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    dilations = (1, 2, 3)

    def __init__(self, channels: int, e: float = 0.5) -> None:
        super().__init__()
        inner = max(int(channels * e), 1)
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1: nn.Module = batch_norm(inner)
        self.conv2 = nn.Conv2d(inner, channels, 3, padding=1, bias=False)
        self.bn2: nn.Module = batch_norm(channels)
        self.bn = batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.bn1(self.conv1(x)))  # nothing before the dilated convolution differs between the branches
        total = x
        for d in self.dilations:
            branch = F.conv2d(y, self.conv2.weight, self.conv2.bias, padding=d, dilation=d)
            total = total + F.silu(self.bn2(branch) + x)
        return F.silu(self.bn(total))

    def fuse(self) -> None:
        """Fold the batch norms into the convolutions before them."""
        fold_members(self, ("conv1", "bn1"), ("conv2", "bn2"))


@register(stack, example=(48,))
class C3RFEM(C3):
    """`C3` with `RFEM` inside (YOLO-FaceV2, arXiv:2208.02019, figure 2).

    Args:
        c1, c2, n, e: as in `C3`.
        shortcut, g: have no effect; the block has its own residuals.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:  # noqa: ARG002
        return nn.Sequential(*(RFEM(width) for _ in range(n)))
