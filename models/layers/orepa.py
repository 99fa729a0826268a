"""Online re-parameterisation: branches of weights instead of maps (Hu et al., CVPR 2022, arXiv:2204.00826)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import multiple, odd
from models.layers.conv import batch_norm, fold
from models.registry import project, register


def cosine_filters(channels: int, k: int) -> Tensor:
    """One fixed k x k filter a channel, (channels, k, k): the frequency prior (arXiv:2204.00826, section 3.3).

    The first half of the channels has cosines of growing frequency along the height, the second half along the width.
    """
    half = (channels + 1) // 2
    order = torch.arange(channels)
    frequency = torch.where(order < half, order, order - half) + 1
    wave = torch.cos(math.pi / k * frequency[:, None] * (torch.arange(k) + 0.5))  # (channels, k)
    return torch.where(order[:, None, None] < half, wave[:, :, None], wave[:, None, :])


def _weight(*shape: int) -> nn.Parameter:
    """A weight of (out, in, height, width) that starts as the authors'."""
    return nn.Parameter(nn.init.kaiming_uniform_(torch.empty(shape)))


@register(project, example=(48, 3, 2))
class OREPA(nn.Module):
    """OREPA's block: six linear branches whose weights add up to one kernel (arXiv:2204.00826, section 3.3, figure 4).

    The branches: k x k; 1x1; 1x1 and a mean; 1x1 and a fixed cosine filter; 1x1 and k x k; depthwise k x k and 1x1. Instead of a norm
    each has a factor per output channel; one batch norm follows the sum, then SiLU. It is one convolution after fusing.

    Args:
        c1: input width.
        c2: output width.
        k: kernel size, odd.
        s: stride.
        g: groups.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: an even kernel, or groups that do not divide the widths.
    """

    cosines: Tensor
    expansion = 8
    """Depthwise filters an input channel."""

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, g: int = 1) -> None:
        super().__init__()
        odd(self, k=k)
        multiple(self, g, c1=c1, c2=c2)
        self.k, self.s, self.g = k, s, g
        group = c1 // g
        self.dense = _weight(c2, group, k, k)
        self.point = _weight(c2, group, 1, 1)
        self.mean = _weight(c2, group, 1, 1)
        self.cosine = _weight(c2, group, 1, 1)
        self.register_buffer("cosines", cosine_filters(c2, k).unsqueeze(1), persistent=False)
        self.deep1 = nn.Parameter(torch.zeros(g, group, group))  # beside the identity, which it starts as
        self.deep2 = _weight(c2, group, k, k)
        self.wide1 = _weight(c1 * self.expansion, 1, k, k)
        self.wide2 = _weight(c2, group * self.expansion, 1, 1)
        starts = {"dense": 0.25, "point": 1.0, "mean": 0.25, "cosine": 0.0, "deep": 0.5, "wide": 0.5}
        self.factors = nn.ParameterDict({name: nn.Parameter(torch.full((c2, 1, 1, 1), start)) for name, start in starts.items()})
        self.bn = batch_norm(c2)
        self.act = nn.SiLU()
        self.merged: nn.Conv2d | None = None

    def kernel(self) -> Tensor:
        """The sum of the branches' weights, (c2, c1 / g, k, k)."""
        shape = self.dense.shape
        first = self.deep1 + torch.eye(shape[1], dtype=self.deep1.dtype, device=self.deep1.device)
        deep = torch.einsum("gti,gothw->goihw", first, self.deep2.unflatten(0, (self.g, -1)))
        filters = self.wide1.reshape(self.g, shape[1], self.expansion, self.k, self.k)
        wide = torch.einsum("giehw,goie->goihw", filters, self.wide2.reshape(self.g, -1, shape[1], self.expansion))
        branches = {
            "dense": self.dense,
            "point": F.pad(self.point, [self.k // 2] * 4),
            "mean": self.mean / self.k**2,
            "cosine": self.cosine * self.cosines,
            "deep": deep.reshape(shape),
            "wide": wide.reshape(shape),
        }
        total = torch.zeros_like(self.dense)
        for name, weight in branches.items():
            total = total + self.factors[name] * weight
        return total

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is not None:
            return self.act(self.merged(x))
        return self.act(self.bn(F.conv2d(x, self.kernel(), None, self.s, self.k // 2, groups=self.g)))

    @torch.no_grad()
    def fuse(self) -> None:
        """Replace branches and batch norm by one convolution."""
        if self.merged is not None:
            return
        c2, group, k, _ = self.dense.shape
        merged = nn.Conv2d(group * self.g, c2, k, self.s, k // 2, groups=self.g, bias=False).to(self.dense.device, self.dense.dtype)
        merged.weight.copy_(self.kernel())
        fold(merged, self.bn)
        for name in ("dense", "point", "mean", "cosine", "deep1", "deep2", "wide1", "wide2", "factors", "bn", "cosines"):
            delattr(self, name)
        self.merged = merged
