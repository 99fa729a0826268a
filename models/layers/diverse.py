"""Branches of several shapes that become one convolution: ACNet's and the diverse branch block."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.conv import batch_norm, fold
from models.layers.merged import Mergeable, padded_kernel
from models.layers.norm import factor_and_shift
from models.registry import project, register


@register(project, aliases=("ACNet",), example=(48, 3, 2))
class ACBlock(Mergeable):
    """Asymmetric convolution block (Ding et al., ICCV 2019, arXiv:1908.03930, section 3): k x k, 1 x k and k x 1, each with batch norm.

    Their sum is one k x k convolution after fusing, whose skeleton the strips strengthen.

    Args:
        c1: input width.
        c2: output width.
        k: side of the kernel, odd.
        s: stride.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__(c1, c2, k, s)
        self.act = nn.SiLU()
        sizes = ((k, k), (1, k), (k, 1))
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c1, c2, size, s, (size[0] // 2, size[1] // 2), bias=False), batch_norm(c2)) for size in sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))

    def total(self, x: Tensor) -> Tensor:
        square, row, column = self.parts
        return square(x) + row(x) + column(x)

    def take_kernels(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from (padded_kernel(part, self.shape[2]) for part in self.parts)
        self.parts = nn.ModuleList()


class _Bordered(nn.Module):
    """Batch norm, then a border of what it makes of a zero, so that a convolution after it has no special case at the border."""

    def __init__(self, channels: int, border: int) -> None:
        super().__init__()
        self.bn, self.border = batch_norm(channels), border

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        if not self.border:
            return x
        assert self.bn.running_mean is not None
        assert self.bn.running_var is not None
        zero = self.bn.bias - self.bn.running_mean * self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        zero = zero.view(-1, 1, 1)
        return F.pad(x - zero, [self.border] * 4) + zero


@register(project, aliases=("DDB", "DBB"), example=(48, 3, 2))
class DiverseBranchBlock(Mergeable):
    """Diverse branch block (Ding et al., CVPR 2021, arXiv:2103.13425, figure 2): four branches, one convolution after fusing.

    A k x k; a 1x1; a 1x1 and a k x k; a 1x1 and a mean over k x k. Every convolution, and the mean, has a batch norm.

    In training its branches have 21 C^2 weights a pixel, a 3x3 convolution 9, and six norms; fused it is a 3x3 convolution.

    Args:
        c1: input width.
        c2: output width.
        k: side of the kernel, odd.
        s: stride.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__(c1, c2, k, s)
        self.act = nn.SiLU()
        self.square, self.point = nn.Conv2d(c1, c2, k, s, k // 2, bias=False), nn.Conv2d(c1, c2, 1, bias=False)
        self.square_bn, self.point_bn, self.deep_bn, self.mean_bn = (batch_norm(c2) for _ in range(4))
        # The first 1x1 of the deep branch starts as the identity, as in the authors' code.
        self.deep_point, self.deep = nn.Conv2d(c1, c1, 1, bias=False), nn.Conv2d(c1, c2, k, s, bias=False)
        nn.init.dirac_(self.deep_point.weight)
        self.deep_border = _Bordered(c1, k // 2)
        self.mean_point, self.mean_border = nn.Conv2d(c1, c2, 1, bias=False), _Bordered(c2, k // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))

    def total(self, x: Tensor) -> Tensor:
        _, _, k, s, _ = self.shape
        thinned = x[..., ::s, ::s]
        y = self.square_bn(self.square(x)) + self.point_bn(self.point(thinned))
        y = y + self.deep_bn(self.deep(self.deep_border(self.deep_point(x))))
        return y + self.mean_bn(F.avg_pool2d(self.mean_border(self.mean_point(x)), k, s))

    def take_kernels(self) -> Iterator[tuple[Tensor, Tensor]]:
        _, c2, k, _, _ = self.shape
        mean = torch.eye(c2, out=self.mean_point.weight.new_empty(c2, c2))[..., None, None].expand(-1, -1, k, k) / k**2
        yield _after(self.square.weight, None, self.square_bn)
        yield _after(F.pad(self.point.weight, [k // 2] * 4), None, self.point_bn)
        yield _chain(self.deep_point, self.deep_border.bn, self.deep.weight, self.deep_bn)
        yield _chain(self.mean_point, self.mean_border.bn, mean, self.mean_bn)
        for name in [name for name, _ in self.named_children() if name not in ("act", "merged")]:
            setattr(self, name, None)


def _after(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution and a batch norm."""
    factor, shift = factor_and_shift(norm, bias)
    return weight * factor.view(-1, 1, 1, 1), shift


def _chain(point: nn.Conv2d, inner: nn.BatchNorm2d, weight: Tensor, outer: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a 1x1, a batch norm, a k x k and a batch norm (arXiv:2103.13425, transform III)."""
    fold(point, inner)
    assert point.bias is not None
    merged = torch.einsum("omhw,mi->oihw", weight, point.weight[:, :, 0, 0])
    return _after(merged, torch.einsum("omhw,m->o", weight, point.bias), outer)
