"""Gates: an inserted block starts as the identity, and a block in the place of another starts as that one."""

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


class Replacement(nn.Module):
    """old(x) + g * (new(x) - old(x)) with g initially 0, so that a pretrained model starts unchanged although a block of it is replaced.

    Attributes:
        g: a buffer, which training raises to 1 (`utils.training.optim.Schedule.fade`), whereupon `old` is removed;
            a parameter if it is learned.

    Args:
        old: the module of the base.
        new: the one in its place, with outputs of the same shape.
        learned: g is learned, and both modules stay.

    Shape:
        any input of both modules -> (B, C, H, W)
    """

    g: Tensor

    def __init__(self, old: nn.Module, new: nn.Module, *, learned: bool) -> None:
        super().__init__()
        self.old, self.new = old, new
        if learned:
            self.g = nn.Parameter(torch.zeros(()))
        else:
            self.register_buffer("g", torch.zeros(()))

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        before, after = self.old(x), self.new(x)
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and before.shape != after.shape:
            shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
            raise ValueError(f"a gate needs a block with the output of the one it replaces; they give {shapes}")
        return before + self.g * (after - before)


def fading(root: nn.Module) -> list[Replacement]:
    """The replacements in a model whose g is not learned."""
    return [m for m in root.modules() if isinstance(m, Replacement) and not isinstance(m.g, nn.Parameter)]
