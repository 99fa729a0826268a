"""Stochastic depth, its rates over a network, and the transformer MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DropPath(nn.Module):
    """Stochastic depth per sample (Huang et al., ECCV 2016, arXiv:1603.09382); the identity in eval or at probability 0.

    Shape:
        (B, ...) -> (B, ...)

    Raises:
        ValueError: a probability outside [0, 1).
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, not {probability}")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        mask = torch.empty(x.shape[0], *[1] * (x.dim() - 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * mask / keep


def rising(last: float, blocks: int) -> list[float]:
    """Rates of stochastic depth that grow linearly from 0 at a network's first block to `last` at its last, (blocks,)."""
    return [last * i / max(blocks - 1, 1) for i in range(blocks)]


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them.

    Shape:
        (..., C) -> (..., C)
    """

    def __init__(self, channels: int, ratio: float = 4.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, int(channels * ratio))
        self.fc2 = nn.Linear(int(channels * ratio), channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
