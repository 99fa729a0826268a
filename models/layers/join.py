"""Concatenation and sums of maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor


class _Dense(torch.autograd.Function):
    """``torch.cat`` along the channels, whose gradients are copies.

    Those of ``torch.cat`` are slices of one gradient. In channels_last such a slice is not contiguous, and the next operator, such as
    SiLU's backward pass, reads it value by value: seven times slower for 16 channels on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.widths = [m.shape[1] for m in maps]
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        last = grad.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return tuple(part.contiguous(memory_format=layout) for part in grad.split(ctx.widths, 1))


def join(*maps: Tensor) -> Tensor:
    """Concatenate (B, C_i, H, W) maps to (B, sum of C_i, H, W)."""
    if torch.is_grad_enabled() and any(m.requires_grad for m in maps) and not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return cast("Tensor", _Dense.apply(*maps))
    return torch.cat(maps, 1)


def total(maps: Iterable[Tensor]) -> Tensor:
    """Add up maps (B, ...) of one shape; stacked behind the batch, as ncnn fails on an axis before it."""
    return torch.stack(list(maps), 1).sum(1)
