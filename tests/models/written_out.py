"""What the tests share that compare a block with its formula written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Function = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, Any], Tensor]
"""Of a map and a block."""


def opened(block: Any) -> Any:
    """Random in place of zeros and ones; in evaluation and float64."""
    for tensor in block.state_dict().values():
        if tensor.is_floating_point() and (not tensor.any() or (tensor == 1).all()):
            tensor.uniform_(0.5, 2)
    return block.double().eval()


def randomized(block: Any) -> Any:
    """Random weights, also in place of zeros and ones; in evaluation and float64."""
    for parameter in block.parameters():
        parameter.normal_(std=0.5)
    return block.double().eval()


@torch.no_grad()
def settled(block: Any) -> Any:
    """In evaluation and float64, with the statistics, factors and shifts of batch norms as after training."""
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.weight, norm.bias):
                assert tensor is not None
                tensor.normal_()
            assert norm.running_var is not None
            norm.running_var.uniform_(0.5, 2)
    return block.double().eval()


def maps(channels: int, height: int = 6, width: int = 7, batch: int = 2) -> Tensor:
    """Random maps in float64."""
    return torch.randn(batch, channels, height, width, dtype=torch.float64)


def linear(x: Tensor, conv: nn.Module) -> Tensor:
    """A 1x1 convolution, written out."""
    y = torch.einsum("dc,bchw->bdhw", conv.weight[:, :, 0, 0], x)
    return y if conv.bias is None else y + conv.bias[:, None, None]


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    """A batch norm in evaluation, written out."""
    mean, variance, weight, bias = (t[:, None, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    return (x - mean) / (variance + norm.eps).sqrt() * weight + bias


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def mish(x: Tensor) -> Tensor:
    return x * (1 + x.exp()).log().tanh()


def leaky(x: Tensor) -> Tensor:
    return torch.maximum(x, x / 10)


def hard_swish(x: Tensor) -> Tensor:
    return x * (x + 3).clamp(0, 6) / 6


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def plain(x: Tensor) -> Tensor:
    return x


def convolved(x: Tensor, part: Any, k: int | tuple[int, int] = 1, act: Function = silu, s: int = 1, g: int = 1, d: int = 1) -> Tensor:
    """A convolution of side `k`, stride, groups and dilation, without bias, padded to keep the size at stride 1; batch norm; activation.

    `part` is a `Conv`, or a sequence that begins with the two.
    """
    conv, norm = (part.conv, part.bn) if hasattr(part, "bn") else part[:2]
    sides = (k, k) if isinstance(k, int) else k
    assert conv.weight.shape[2:] == sides
    assert conv.bias is None
    return act(normed(F.conv2d(x, conv.weight, None, s, [d * (side // 2) for side in sides], d, g), norm))


def joined(*parts: Tensor) -> Tensor:
    return torch.cat(parts, 1)


def chain(step: Step) -> Step:
    """One block after the other."""

    def run(x: Tensor, blocks: Any) -> Tensor:
        for block in blocks:
            x = step(x, block)
        return x

    return run


def pooled(x: Tensor, *sides: int) -> Tensor:
    return joined(x, *(F.max_pool2d(x, side, 1, side // 2) for side in sides))
