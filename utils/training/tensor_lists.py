"""Operations on lists of tensors of one device and dtype, in one call where this PyTorch has it: its names for them are not public."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def _whole(name: str) -> Callable[..., Any] | None:
    """The operator of this name on lists; None where this PyTorch has none."""
    return getattr(torch, f"_foreach_{name}", None)


def copy_lists(into: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    """Overwrite each of `into` with its partner in `source`."""
    if whole := _whole("copy_"):
        whole(into, source)
        return
    for a, b in zip(into, source, strict=True):
        a.copy_(b)


def add_lists(into: Sequence[Tensor], terms: Sequence[Tensor]) -> None:
    """Add to each of `into` its partner in `terms`."""
    if whole := _whole("add_"):
        whole(into, terms)
        return
    for a, b in zip(into, terms, strict=True):
        a.add_(b)


def lerp_lists(into: Sequence[Tensor], towards: Sequence[Tensor], weight: float) -> None:
    """Move each of `into` by the share `weight` of the way to its partner in `towards`."""
    if whole := _whole("lerp_"):
        whole(into, towards, weight)
        return
    for a, b in zip(into, towards, strict=True):
        a.lerp_(b, weight)


def norms(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The Euclidean norm of each, a tensor without axes."""
    whole = _whole("norm")
    return whole(tensors) if whole else [torch.linalg.vector_norm(t) for t in tensors]
