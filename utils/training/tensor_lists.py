"""Operations on lists of tensors of one device and dtype, by PyTorch's private multi-tensor operators where it has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def _foreach(name: str) -> Callable[..., Any] | None:
    """The multi-tensor operator of this name; None if there is none."""
    return getattr(torch, f"_foreach_{name}", None)


def copy_lists(into: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Copy each of `source` into `into`."""
    if foreach := _foreach("copy_"):
        foreach(into, source)
        return
    for a, b in zip(into, source, strict=True):
        a.copy_(b)


def add_lists(into: Sequence[Tensor], terms: Sequence[Tensor]) -> None:
    """Add each of `terms` to `into`."""
    if foreach := _foreach("add_"):
        foreach(into, terms)
        return
    for a, b in zip(into, terms, strict=True):
        a.add_(b)


def lerp_lists(into: Sequence[Tensor], towards: Sequence[Tensor], weight: float) -> None:
    """Interpolate each of `into` linearly towards `towards` by `weight`."""
    if foreach := _foreach("lerp_"):
        foreach(into, towards, weight)
        return
    for a, b in zip(into, towards, strict=True):
        a.lerp_(b, weight)


def norms(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The Euclidean norm of each, a scalar tensor."""
    foreach = _foreach("norm")
    return foreach(tensors) if foreach else [torch.linalg.vector_norm(t) for t in tensors]
