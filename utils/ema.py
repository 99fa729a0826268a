"""A running average of the weights, which validates better than the weights themselves."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class ModelEMA:
    """Exponential moving average of everything floating in a model's state, batch-norm statistics included.

    The decay grows from 0 to `decay` over some `tau` updates, so that the first weights are soon forgotten.

    Attributes:
        module: the averaged model, in eval mode and without gradients.
        updates: how many updates it has seen.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.9999, tau: float = 2000.0) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.updates = 0
        self._decay, self._tau = decay, tau

    def decay(self) -> float:
        """Weight of the past at the current count of updates."""
        return self._decay * (1 - math.exp(-self.updates / self._tau))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of `model`, which has the structure of the one given first."""
        self.updates += 1
        old, new = self.module.state_dict(), model.state_dict()
        pairs = [(old[key], value.detach()) for key, value in new.items()]
        floating = [(a, b) for a, b in pairs if a.is_floating_point()]
        torch._foreach_lerp_(_first(floating), _second(floating), 1 - self.decay())
        for a, b in pairs:
            if not a.is_floating_point():
                a.copy_(b)


def _first(pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [a for a, _ in pairs]


def _second(pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [b for _, b in pairs]
