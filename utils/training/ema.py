"""Exponential moving average (EMA) of the weights, which validates better than the weights themselves."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

HORIZON = 2000.0
"""Updates that YOLOv5's average takes to reach about its limit."""


class ModelEMA:
    """Exponential moving average of everything floating in a model's state, batch-norm statistics included.

    The decay grows from 0 over about `horizon` updates, so that the first weights count little. Its limit is YOLOv5's 0.9999, or, with
    a horizon of its own, that of an average over so many updates: in a run of fewer than 2000 updates YOLOv5's averages little.

    Attributes:
        module: the averaged model, in eval mode and without gradients.
        updates: the number of updates so far.
    """

    def __init__(self, model: nn.Module, *, horizon: float = 0.0) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.updates = 0
        self._limit, self._horizon = (1 - 1 / max(horizon, 1), horizon) if horizon else (0.9999, HORIZON)
        old, new = (m.state_dict(keep_vars=True).values() for m in (self.module, model))  # once: it takes a millisecond
        pairs = list(zip(old, new, strict=True))
        self._floating = [(a, b) for a, b in pairs if a.is_floating_point()]
        self._counts = [(a, b) for a, b in pairs if not a.is_floating_point()]

    def decay(self) -> float:
        """Weight of the past at the current count of updates."""
        return self._limit * (1 - math.exp(-self.updates / self._horizon))

    @torch.no_grad()
    def update(self) -> None:
        """Average in the present weights of the model."""
        self.updates += 1
        torch._foreach_lerp_([a for a, _ in self._floating], [b for _, b in self._floating], 1 - self.decay())
        for a, b in self._counts:
            a.copy_(b)
