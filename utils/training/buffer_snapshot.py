"""A copy of a model's buffers: what a forward pass in training mode changes, and undoing a step restores."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BufferSnapshot:
    """A copy of all buffers of a model, batch-norm statistics above all. It keeps its memory from one copy to the next."""

    def __init__(self, model: nn.Module) -> None:
        buffers = list(model.buffers())
        kinds = {(b.dtype, b.device) for b in buffers}
        self._live = [[b for b in buffers if (b.dtype, b.device) == kind] for kind in kinds]  # lists of one kind are copied in one call
        self._saved = [[b.clone() for b in group] for group in self._live]

    def save(self) -> None:
        """Copy the buffers as they are now."""
        for saved, live in zip(self._saved, self._live, strict=True):
            torch._foreach_copy_(saved, live)

    def restore(self) -> None:
        """Overwrite the buffers with the copy."""
        for saved, live in zip(self._saved, self._live, strict=True):
            torch._foreach_copy_(live, saved)

    def live(self) -> list[Tensor]:
        """The buffers themselves, not copies."""
        return [b for group in self._live for b in group]

    def saved(self) -> list[Tensor]:
        """The copies."""
        return [b for group in self._saved for b in group]


@torch.no_grad()
def all_finite(tensors: list[Tensor]) -> bool:
    """Whether every value of the floating ones among `tensors` is finite."""
    checks = [t.isfinite().all() for t in tensors if t.is_floating_point()]
    return not checks or bool(torch.stack([c.to(checks[0].device) for c in checks]).all())
