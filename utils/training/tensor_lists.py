"""In-place operations on lists of tensors, by PyTorch's private multi-tensor operators where it has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def apply_each(name: str, into: Sequence[Tensor], other: Sequence[Tensor], *args: Any) -> None:
    """Call the method `name` of each of `into` ("copy_", "add_", "lerp_") with its partner in `other` and `args`.

    The lists should be of one device and dtype.
    """
    if foreach := getattr(torch, f"_foreach_{name}", None):
        foreach(into, other, *args)
        return
    for a, b in zip(into, other, strict=True):
        getattr(a, name)(b, *args)
