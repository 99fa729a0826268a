"""A plug-in of the tests: one block whose training diverges, one whose training crashes."""

import torch
from torch import Tensor

from models.registry import preserve, register


@register(preserve, name="Boom")
class Boom(torch.nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * float("nan") if self.training else x


@register(preserve, name="Crash")
class Crash(Boom):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            raise RuntimeError("this block cannot be trained")
        return x
