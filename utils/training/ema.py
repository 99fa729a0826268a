"""Exponential moving average (EMA) of the weights, which validates better than the weights themselves."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class ModelEMA:
    """Exponential moving average of everything floating in a model's state, batch-norm statistics included.

    The decay grows from 0 to `decay` over about `tau` updates, so that the first weights count little.

    Attributes:
        module: the averaged model, in eval mode and without gradients.
        updates: the number of updates so far.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.9999, tau: float = 2000.0) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.updates = 0
        self._decay, self._tau = decay, tau
        old, new = (m.state_dict(keep_vars=True).values() for m in (self.module, model))  # once: it takes a millisecond
        pairs = list(zip(old, new, strict=True))
        self._floating = [(a, b) for a, b in pairs if a.is_floating_point()]
        self._counts = [(a, b) for a, b in pairs if not a.is_floating_point()]

    def decay(self) -> float:
        """Weight of the past at the current count of updates."""
        return self._decay * (1 - math.exp(-self.updates / self._tau))

    @torch.no_grad()
    def update(self) -> None:
        """Average in the present weights of the model."""
        self.updates += 1
        torch._foreach_lerp_([a for a, _ in self._floating], [b for _, b in self._floating], 1 - self.decay())
        for a, b in self._counts:
            a.copy_(b)
