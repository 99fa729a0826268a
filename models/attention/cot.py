"""Contextual Transformer block, CoT, and its grouped form CoXt (Li et al., TPAMI 2022, arXiv:2107.12292)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import multiple, odd
from models.layers.conv import Conv, fold_members
from models.layers.csp import C3
from models.layers.norm import GroupNorm, PooledBatchNorm, Shift, factor_and_shift
from models.layers.residual import ResidualBottleneck, init_resnet_weights
from models.registry import preserve, project, register, stack


def _taps(size: int, height: int, width: int) -> list[tuple[slice, slice]]:
    """The k*k shifted windows of a padded map, row-major."""
    return [(slice(a, a + height), slice(b, b + width)) for a in range(size) for b in range(size)]


class _Aggregate(torch.autograd.Function):
    """`local_aggregation` with a backward pass that saves values and weights only, no k*k products."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor, size: int) -> Tensor:
        height, width = values.shape[-2:]
        padded = F.pad(values, [size // 2] * 4)
        ctx.save_for_backward(padded, weights)
        ctx.size = size
        out = torch.zeros_like(values)
        for tap, (rows, columns) in enumerate(_taps(size, height, width)):
            out.addcmul_(padded[..., rows, columns], weights[:, None, :, tap])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        padded, weights = ctx.saved_tensors
        height, width = grad.shape[-2:]
        edge = ctx.size // 2
        to_values, to_weights = torch.zeros_like(padded), torch.empty_like(weights)
        for tap, (rows, columns) in enumerate(_taps(ctx.size, height, width)):
            to_values[..., rows, columns].addcmul_(grad, weights[:, None, :, tap])
            torch.sum(grad * padded[..., rows, columns], 1, out=to_weights[:, :, tap])
        return to_values[..., edge : edge + height, edge : edge + width], to_weights, None


def local_aggregation(values: Tensor, weights: Tensor, size: int) -> Tensor:
    """Sum each value's k x k neighbourhood with weights of that position, zeros beyond the border.

    Args:
        values: (B, S, G, H, W); the S maps of a group share its weights.
        weights: (B, G, k*k, H, W), taps row-major.
        size: k, odd.

    Returns:
        (B, S, G, H, W)
    """
    if torch.is_grad_enabled() and (values.requires_grad or weights.requires_grad):
        dtype = torch.promote_types(values.dtype, weights.dtype)
        return _Aggregate.apply(values.to(dtype), weights.to(dtype), size)
    padded, out = F.pad(values, [size // 2] * 4), torch.zeros_like(values)
    for tap, (rows, columns) in enumerate(_taps(size, *values.shape[-2:])):
        out = out + padded[..., rows, columns] * weights[:, None, :, tap]
    return out


@register(preserve, example=(3,))
class CoT(nn.Module):
    """Contextual Transformer block (arXiv:2107.12292, section 3.2; details of the authors' code).

    A grouped convolution gives each pixel its static context; query and context together predict, per pixel, a k x k kernel
    that sums the values around it to the dynamic context; a channel-wise softmax fuses the two.

    Channels c, c + C/8, c + 2C/8, ... share one k x k map. Widely used copies average this map over its taps and apply a softmax
    over all positions, which ignores the neighbourhood; here it is the paper's.

    Args:
        channels: width C of input and output.
        kernel_size: k, odd.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size, or an odd width.
    """

    groups = 1

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        odd(self, kernel_size=kernel_size)
        multiple(self, 2 * self.groups, channels=channels)
        g = self.groups
        # Eight channels share a map, or as many as divide the width.
        self.share = math.gcd(channels // g, 8) if channels % (8 * g) else 8
        maps = channels // self.share
        self.kernel_size = kernel_size
        keys = math.gcd(channels, 4 * g)
        self.key_embed = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=keys, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.embed = nn.Sequential(
            nn.Conv2d(2 * channels, channels // 2, 1, groups=math.gcd(g, channels // 2), bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, kernel_size**2 * maps, 1, groups=math.gcd(g, channels // 2)),
            GroupNorm(maps, kernel_size**2 * maps),
        )
        self.conv1x1 = nn.Sequential(nn.Conv2d(channels, channels, 1, groups=g, bias=False), nn.BatchNorm2d(channels))
        self.bn: nn.Module = nn.BatchNorm2d(channels)
        attention = max(channels // 2, 32)
        self.se = nn.Sequential(
            nn.Conv2d(channels, attention, 1), PooledBatchNorm(attention), nn.ReLU(inplace=True), nn.Conv2d(attention, 2 * channels, 1)
        )
        init_resnet_weights(self)

    def joined(self, x: Tensor, keys: Tensor) -> Tensor:
        """Concatenate query and keys: (B, C, H, W), (B, C, H, W) -> (B, 2C, H, W)."""
        return torch.cat((x, keys), 1)

    def _kernels(self, x: Tensor, static: Tensor) -> Tensor:
        """The k x k weights of each pixel, (B * groups, maps / groups, k * k, H, W)."""
        return self.embed(self.joined(x, static)).reshape(x.shape[0] * self.groups, -1, self.kernel_size**2, *x.shape[2:])

    def attention(self, x: Tensor) -> Tensor:
        """The mean magnitude of each pixel's k x k weights, (B, maps, H, W)."""
        return self._kernels(x, self.key_embed(x)).abs().mean(2).reshape(x.shape[0], -1, *x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        g, size = self.groups, self.kernel_size
        static = self.key_embed(x)
        weights = self._kernels(x, static)
        values = self.conv1x1(x).reshape(batch * g, self.share, -1, height, width)
        dynamic = local_aggregation(values, weights, size).reshape(batch, channels, height, width)
        dynamic = F.silu(self.bn(dynamic))
        return self.fused(dynamic, static)

    def fused(self, dynamic: Tensor, static: Tensor) -> Tensor:
        """Selective-kernel fusion of the two contexts: (B, C, H, W), (B, C, H, W) -> (B, C, H, W)."""
        # Channel-major: logit 2c is the dynamic context's, 2c + 1 the static one's.
        logits = self.se((dynamic + static).mean((2, 3), keepdim=True))
        weights = logits.unflatten(1, (-1, 2)).softmax(2)  # (B, C, 2, 1, 1)
        return dynamic * weights[:, :, 0] + static * weights[:, :, 1]

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the batch norm after the aggregation: its factor goes into the values, in which the aggregation is linear."""
        if not isinstance(self.bn, nn.BatchNorm2d):
            return
        factor, shift = factor_and_shift(self.bn)
        fold_members(self.conv1x1, ("0", "1"))
        values = self.conv1x1[0]
        assert isinstance(values, nn.Conv2d)
        assert values.bias is not None
        values.weight.mul_(factor.view(-1, 1, 1, 1))
        values.bias.mul_(factor)
        self.bn = Shift(shift)


@register(preserve, example=(3,))
class CoXt(CoT):
    """CoT with two groups, the block of CoTNeXt (arXiv:2107.12292, section 3.3).

    Query and keys are interleaved, so that each group sees matching halves of both.

    Args:
        channels: width C of input and output.
        kernel_size: k, odd.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size, or a width that is not a multiple of 4.
    """

    groups = 2

    def joined(self, x: Tensor, keys: Tensor) -> Tensor:
        return torch.stack((x, keys), 2).flatten(1, 2)


@register(project, example=(32, 2))
class CoTBottleneck(ResidualBottleneck):
    """ResNet's bottleneck whose 3x3 is a `CoT` block (arXiv:2107.12292, table 1), the block of CoTNet.

    It has neither norm nor activation after the CoT block; stride 2 is an average pool before it. Convolutions start Kaiming-normal (fan
    out), the last norm at zero, as in CoTNet.

    Args:
        channels: width of the input.
        out: width of the output.
        stride: 1 or 2.
        grouped: a `CoXt` block, as in CoTNeXt.
        width: width of the CoT block; None is a quarter of `out`, or 3/8 if grouped.

    Shape:
        (B, channels, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))

    Raises:
        ValueError: a stride other than 1 and 2, or a width that `CoT` rejects.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, grouped: bool = False, width: int | None = None) -> None:
        if stride not in (1, 2):
            raise ValueError(f"CoTBottleneck: stride must be 1 or 2, not {stride}")
        if width is None:
            width = out // 4 * 3 // 4 * 2 if grouped else out // 4
        super().__init__(channels, width, out, stride, CoXt(width) if grouped else CoT(width))
        init_resnet_weights(self)
        self.stride = stride

    def before(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 2, 1) if self.stride == 2 else x  # the mean includes the padding, as in the authors' code


class CoTInner(nn.Module):
    """The inner block of `C3CoT`: YOLOv5's bottleneck with a `CoT` block as its 3x3.

    Args:
        width: width of input and output.
        shortcut: add the input.
        kernel_size: as in `CoT`.

    Shape:
        (B, width, H, W) -> the same
    """

    def __init__(self, width: int, shortcut: bool, kernel_size: int) -> None:
        super().__init__()
        self.cv1 = Conv(width, width, 1)
        self.cot = CoT(width, kernel_size)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cot(self.cv1(x))
        return x + y if self.add else y


@register(stack, example=(48,))
class C3CoT(C3):
    """`C3` whose inner 3x3 convolutions are `CoT` blocks.

    Args:
        c1, c2, n, shortcut, e: as in `C3`.
        kernel_size: as in `CoT`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), any H, W >= 1
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, kernel_size: int = 3, e: float = 0.5) -> None:
        super().__init__(c1, c2, 0, e=e)
        self.m = nn.Sequential(*(CoTInner(int(c2 * e), shortcut, kernel_size) for _ in range(n)))
