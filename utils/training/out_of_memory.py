"""A training step that does not fit into memory runs again with recomputed activations.

Only what passes from row to row is kept then, and the inside of a row is computed once more in the backward pass (Chen et al., 2016).
The result is the same to the bit.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from utils.errors import UserError
from utils.training.buffer_snapshot import BufferSnapshot
from utils.training.losses.loss import Terms
from utils.training.state import TrainState
from utils.training.tensor_lists import add_lists

ForwardBackward = Callable[[Tensor, Tensor], tuple[Tensor, Terms]]
"""Adds the gradients of a batch (images, targets) to those accumulated; returns the loss and its terms."""

_MESSAGES = ("not enough memory", "DefaultCPUAllocator", "out of memory")
"""Parts of the messages of errors that have no type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, of the GPU or the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


class OutOfMemoryRetry:
    """Runs forward and backward passes; when one does not fit, that and all later ones recompute activations.

    With several ranks there is one try only: the others cannot be asked to repeat it.
    """

    def __init__(self, state: TrainState) -> None:
        self._state, self._parameters = state, state.parameters()
        self._buffers = BufferSnapshot(state.model)

    def __call__(self, forward_backward: ForwardBackward, images: Tensor, targets: Tensor, where: str) -> tuple[Tensor, Terms]:
        """Run `forward_backward`; a try that fails leaves weights, gradients, buffers and random state as they were.

        Raises:
            UserError: the batch, named by `where`, does not fit.
        """
        single = self._state.ranks.world_size == 1
        accumulated = [p.grad for p in self._parameters]
        if single:
            self._buffers.save()
        while True:
            if single:  # those of a failed backward pass must not be added to the accumulated gradients
                for p in self._parameters:
                    p.grad = None
            try:
                result = forward_backward(images, targets)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())[:200]
            else:
                if single:
                    self._accumulate(accumulated)
                return result
            # outside the handler, so that nothing holds the failed try's tensors
            if single:
                self._buffers.restore()
            self._recompute(reason, where)
            torch.manual_seed(torch.initial_seed())
            if images.is_cuda:
                torch.cuda.empty_cache()

    def _accumulate(self, accumulated: list[Tensor | None]) -> None:
        """Add the new gradients to those `accumulated`, in the order in which autograd would."""
        both = [(old, p.grad) for p, old in zip(self._parameters, accumulated, strict=True) if old is not None and p.grad is not None]
        if both:
            add_lists([old for old, _ in both], [new for _, new in both])
        for p, old in zip(self._parameters, accumulated, strict=True):
            if old is not None:
                p.grad = old

    def _recompute(self, reason: str, where: str) -> None:
        state, ranks = self._state, self._state.ranks
        if ranks.world_size > 1 or state.recompute:
            place = f"{where}, on rank {ranks.rank}" if ranks.world_size > 1 else f"{where}, even with recomputed activations"
            raise UserError(f"out of memory in {place} ({reason}): lower --batch-size or --imgsz, or choose a smaller model")
        state.recompute, state.wrapped = True, functools.partial(recomputed_forward, state.model, state.layers)
        state.events.record(
            "out of memory",
            f"out of memory in {where}; from now on activations are recomputed in the backward pass: "
            "the result is the same, and a step takes about a third longer",
            where=where,
            reason=reason,
        )


def recomputed_forward(model: nn.Module, layers: Sequence[nn.Module], images: Tensor) -> Sequence[Tensor]:
    """Call `model`; its `layers` keep no activations of their inside and compute them again in the backward pass."""
    for layer in layers:
        contexts = functools.partial(_contexts, layer)
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False, context_fn=contexts)
    try:
        return model(images)
    finally:
        for layer in layers:
            del layer.forward  # uncovers the method of its class


def _contexts(layer: nn.Module) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """Those of a layer's forward pass and of its recomputation, which must not update batch-norm statistics a second time."""
    return contextlib.nullcontext(), _kept_buffers(layer)


@contextlib.contextmanager
def _kept_buffers(layer: nn.Module) -> Iterator[None]:
    buffers = BufferSnapshot(layer)
    try:
        yield
    finally:
        buffers.restore()
