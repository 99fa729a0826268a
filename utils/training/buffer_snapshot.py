"""A model's buffers put aside: what a forward pass in training mode changes, and a step that is undone must bring back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from utils.training.tensor_lists import copy_lists, norms


class Buffers:
    """A copy of all buffers of a model, batch-norm statistics above all. It keeps its memory from one copy to the next."""

    def __init__(self, model: nn.Module) -> None:
        live = list(model.buffers())
        kinds = {(b.dtype, b.device) for b in live}
        self._live = [[b for b in live if (b.dtype, b.device) == kind] for kind in kinds]  # lists of one kind are copied in one go
        self._kept = [[b.clone() for b in group] for group in self._live]

    def keep(self) -> None:
        """Put the buffers aside as they are now."""
        for kept, live in zip(self._kept, self._live, strict=True):
            copy_lists(kept, live)

    def put_back(self) -> None:
        """Make the buffers what they were when they were put aside."""
        for kept, live in zip(self._kept, self._live, strict=True):
            copy_lists(live, kept)

    def mix(self, states: list[tuple[float, list[Tensor]]]) -> None:
        """Change each floating buffer by the weighted mean of its changes to `states`, see `floating`."""
        start = [b for group in self._kept for b in group if b.is_floating_point()]
        for place, old, *new in zip(self.floating(), start, *(values for _, values in states), strict=True):
            place.copy_(old)
            for (weight, _), value in zip(states, new, strict=True):
                place.add_(value - old, alpha=weight)

    def floating(self) -> list[Tensor]:
        """The floating buffers themselves, not copies."""
        return [b for b in self.live() if b.is_floating_point()]

    def live(self) -> list[Tensor]:
        """All buffers themselves, not copies."""
        return [b for group in self._live for b in group]

    def finite(self) -> bool:
        """Whether what was put aside is finite."""
        return all_finite([b for group in self._kept for b in group])


def magnitude(tensors: list[Tensor]) -> Tensor:
    """A number that is finite only if all floating `tensors`, of one device, are; on their device, so nothing waits for it."""
    return torch.stack([n.float() for n in norms(tensors)]).sum()


@torch.no_grad()
def all_finite(tensors: list[Tensor]) -> bool:
    """Whether every value of the floating ones among `tensors` is finite."""
    checks = [t.isfinite().all() for t in tensors if t.is_floating_point()]
    return not checks or bool(torch.stack([c.to(checks[0].device) for c in checks]).all())
