"""Modules written for tokens or for channels last, on maps: for plug-ins."""

from __future__ import annotations

from torch import Tensor, nn


class OverTokens(nn.Module):
    """A module that takes tokens (B, N, C), on a map: its pixels, row by row, are the tokens.

    Args:
        inner: (B, N, C), `inputs` times, -> (B, N, C').
        inputs: how many arguments it takes; 3 for queries, keys and values.

    Shape:
        (B, C, H, W) -> (B, C', H, W)
    """

    def __init__(self, inner: nn.Module, inputs: int = 1) -> None:
        super().__init__()
        self.inner, self.inputs = inner, inputs

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.inner(*[tokens] * self.inputs).transpose(1, 2).unflatten(2, x.shape[2:])


class OverNHWC(nn.Module):
    """A module that takes maps with the channels last, on a map.

    Args:
        inner: (B, H, W, C) -> (B, H, W, C').

    Shape:
        (B, C, H, W) -> (B, C', H, W)
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
