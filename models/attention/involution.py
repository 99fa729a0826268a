"""Involution, a kernel per pixel that channels share (Li et al., CVPR 2021, arXiv:2103.06255)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.layers.conv import Conv
from models.layers.residual import init_resnet_weights
from models.registry import project, register


@register(project, example=(48, 3, 2))
class Involution(nn.Module):
    """Involution: each pixel's channels predict its own k x k kernels, one for a group of channels (arXiv:2103.06255, eq. 5 and 6).

    It keeps the width; where a row names another one, `Conv` 1x1 goes before it, as in the authors' bottleneck. Weights start
    Kaiming-normal (fan out), biases at zero, as the authors'. Bound by memory: in training it takes more than
    2x a 3x3 convolution's time, with a ninth of its operations.

    Args:
        c1: input width.
        c2: output width.
        k: side of the kernels, odd.
        s: stride; the kernels are predicted from a map averaged to the output's size.
        channels: of a group, 16 in the paper; the next lower number that divides c2 where it does not.
        reduction: of the width from which the kernels are predicted.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: an even kernel.
    """

    def __init__(self, c1: int, c2: int, k: int = 7, s: int = 1, channels: int = 16, reduction: int = 4) -> None:
        super().__init__()
        odd(self, k=k)
        positive(self, s=s, channels=channels, reduction=reduction)
        self.k, self.s = k, s
        self.groups = c2 // next(n for n in range(min(channels, c2), 0, -1) if c2 % n == 0)
        inner = max(c2 // reduction, 1)
        self.widen = Conv(c1, c2) if c1 != c2 else nn.Identity()
        self.reduce = nn.Sequential(nn.Conv2d(c2, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU())
        self.span = nn.Conv2d(inner, k * k * self.groups, 1)
        init_resnet_weights(self)
        assert self.span.bias is not None
        nn.init.zeros_(self.span.bias)

    def kernels(self, x: Tensor) -> Tensor:
        """The kernels of each output pixel, (B, groups, k * k, H', W'), taps row-major."""
        pooled = F.avg_pool2d(x, self.s, self.s, ceil_mode=True) if self.s > 1 else x
        return self.span(self.reduce(pooled)).unflatten(1, (self.groups, self.k**2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        kernels = self.kernels(x)
        H, W = ((side + self.s - 1) // self.s for side in x.shape[2:])  # ONNX's tracer takes the sizes behind unflatten for constant
        padded = F.pad(x, [self.k // 2] * 4).unflatten(1, (self.groups, -1))  # (B, groups, channels of one, H, W)
        out = x.new_zeros(())
        for tap in range(self.k**2):
            row, column = divmod(tap, self.k)
            rows, columns = slice(row, row + self.s * (H - 1) + 1, self.s), slice(column, column + self.s * (W - 1) + 1, self.s)
            out = out + padded[..., rows, columns] * kernels[:, :, None, tap]
        return out.flatten(1, 2)
