"""A gate with which an inserted block starts as the identity."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """x + g * (block(x) - x) with a learned scalar g, initially 0, so that a pretrained model starts unchanged.

    Args:
        block: a module that keeps the shape of its input.

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.g = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and y.shape != x.shape:  # a map of one cell would be broadcast without an error
            raise ValueError(f"a gate needs a block that keeps the shape; this one changes {tuple(x.shape)} to {tuple(y.shape)}")
        return x + self.g * (y - x)
