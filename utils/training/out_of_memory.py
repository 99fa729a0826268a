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

ForwardBackward = Callable[[Tensor, Tensor], tuple[Tensor, Terms]]
"""Adds the gradients of a batch (images, targets) to those accumulated; returns the loss and its terms."""

_MESSAGES = ("not enough memory", "DefaultCPUAllocator", "out of memory")
"""Parts of the messages of errors that have no type of their own."""
_FINAL = "out of memory in {} ({}): lower --batch-size or --imgsz, or choose a smaller model"


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
        state = self._state
        if state.ranks.world_size > 1:
            result = _attempt(forward_backward, images, targets)
            if isinstance(result, str):
                raise UserError(_FINAL.format(f"{where}, on rank {state.ranks.rank}", result))
            return result
        accumulated = [p.grad for p in self._parameters]
        self._buffers.save()
        while True:
            for p in self._parameters:  # those of a failed backward pass must not be added to the accumulated gradients
                p.grad = None
            result = _attempt(forward_backward, images, targets)
            if not isinstance(result, str):
                self._accumulate(accumulated)
                return result
            self._buffers.restore()
            if state.recompute:
                raise UserError(_FINAL.format(f"{where}, even with recomputed activations", result))
            state.recompute, state.wrapped = True, functools.partial(recomputed_forward, state.model, state.layers)
            state.events.record(
                "out of memory",
                f"out of memory in {where}; from now on activations are recomputed in the backward pass: "
                "the result is the same, and a step takes about a third longer",
                where=where,
                reason=result,
            )
            torch.manual_seed(torch.initial_seed())
            if images.is_cuda:
                torch.cuda.empty_cache()

    def _accumulate(self, accumulated: list[Tensor | None]) -> None:
        """Add the new gradients to those `accumulated`, in the order in which autograd would."""
        both = [(old, p.grad) for p, old in zip(self._parameters, accumulated, strict=True) if old is not None and p.grad is not None]
        if both:
            torch._foreach_add_([old for old, _ in both], [new for _, new in both])
        for p, old in zip(self._parameters, accumulated, strict=True):
            if old is not None:
                p.grad = old


def _attempt(forward_backward: ForwardBackward, images: Tensor, targets: Tensor) -> tuple[Tensor, Terms] | str:
    """The result; if memory ran out, the error's message alone, so that nothing holds the failed try's tensors."""
    try:
        return forward_backward(images, targets)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return " ".join(str(error).split())[:200]


def recomputed_forward(model: nn.Module, layers: Sequence[nn.Module], images: Tensor) -> Sequence[Tensor]:
    """Call `model`; its `layers` keep no activations of their inside and compute them again in the backward pass."""
    for layer in layers:
        contexts = functools.partial(lambda kept: (contextlib.nullcontext(), _kept_buffers(kept)), layer)
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False, context_fn=contexts)
    try:
        return model(images)
    finally:
        for layer in layers:
            del layer.forward  # uncovers the method of its class


@contextlib.contextmanager
def _kept_buffers(layer: nn.Module) -> Iterator[None]:
    """The context of a layer's recomputation, which must not update batch-norm statistics a second time."""
    buffers = BufferSnapshot(layer)
    try:
        yield
    finally:
        buffers.restore()
