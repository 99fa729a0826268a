"""Convolutions whose kernel is mixed for each image from several."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.layers.conv import batch_norm
from models.layers.norm import Shift, factor_and_shift
from models.registry import project, register


class MixedConv(nn.Module):
    """A convolution by sum of share_i * kernel_i, batch norm, SiLU; a subclass gives the shares.

    Args:
        c1: input width.
        c2: output width.
        k: side of the kernels, odd.
        s: stride.
        experts: number of kernels n.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, k: int, s: int, experts: int) -> None:
        super().__init__()
        odd(self, k=k)
        positive(self, s=s, experts=experts)
        self.stride, self.experts = s, experts
        # (experts * c2, c1, k, k): in channels_last, which training uses, a tensor has four axes at the most.
        self.weight = nn.Parameter(torch.cat([nn.Conv2d(c1, c2, k, bias=False).weight.detach() for _ in range(experts)]))
        self.bn: nn.Module = batch_norm(c2)
        self.act = nn.SiLU()

    def shares(self, x: Tensor) -> Tensor:
        """(B, experts)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        n, k = self.experts, self.weight.shape[2]
        out, shares = len(self.weight) // n, self.shares(x)
        if torch.jit.is_tracing() or torch.compiler.is_exporting():  # type: ignore[attr-defined, no-untyped-call]
            # n convolutions, equal as they are linear: the number of groups below would fix the batch size of a graph.
            y = F.conv2d(x, self.weight, stride=self.stride, padding=k // 2)
            y = (y.unflatten(1, (n, out)) * shares[..., None, None, None]).sum(1)
        else:
            B, C, H, W = x.shape
            kernels = (shares @ self.weight.reshape(n, -1).to(shares.dtype)).reshape(B * out, C, k, k)
            y = F.conv2d(x.reshape(1, B * C, H, W).to(kernels.dtype), kernels, stride=self.stride, padding=k // 2, groups=B)
            y = y.reshape(B, out, *y.shape[2:])
        return self.act(self.bn(y))

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the batch norm's factor into the kernels."""
        if isinstance(self.bn, nn.BatchNorm2d):
            factor, shift = factor_and_shift(self.bn)
            every = factor.repeat(self.experts).view(-1, 1, 1, 1)
            self.weight = nn.Parameter(self.weight * every, requires_grad=self.weight.requires_grad)
            self.bn = Shift(shift)


@register(project, example=(48, 3, 2))
class CondConv(MixedConv):
    """Conditionally parameterised convolution (Yang et al., NeurIPS 2019, arXiv:1904.04971, eq. 1-2).

    Shares are sigmoids of a linear map of the pooled input.

    Args:
        c1, c2, k, s: as in `MixedConv`.
        experts: number of kernels; 8 in the paper.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, experts: int = 8) -> None:
        super().__init__(c1, c2, k, s, experts)
        self.route = nn.Linear(c1, experts)

    def shares(self, x: Tensor) -> Tensor:
        return self.route(x.mean((2, 3))).sigmoid()


@register(project, example=(48, 3, 2))
class DynamicConv(MixedConv):
    """Dynamic convolution (Chen et al., CVPR 2020, arXiv:1912.03458, eq. 2-5).

    Shares are a softmax, so flat at the start that all kernels learn; the paper lowers the temperature from 30 to 1 over the first ten
    epochs, here it stays.

    Args:
        c1, c2, k, s: as in `MixedConv`.
        experts: number of kernels; 4 in the paper.
        reduction: c1 / inner width of the shares' two layers.
        temperature: of the softmax.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, experts: int = 4, reduction: int = 4, temperature: float = 30.0) -> None:
        super().__init__(c1, c2, k, s, experts)
        if temperature <= 0:
            raise ValueError(f"DynamicConv: temperature must be above 0, not {temperature}")
        positive(self, reduction=reduction)
        inner = max(c1 // reduction, 4)
        self.attend = nn.Sequential(nn.Linear(c1, inner), nn.ReLU(), nn.Linear(inner, experts))
        self.temperature = temperature

    def shares(self, x: Tensor) -> Tensor:
        return (self.attend(x.mean((2, 3))) / self.temperature).softmax(1)
