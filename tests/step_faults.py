"""Faults for `tests.tiny_training`: out of memory, NaN and Inf."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tests.tiny_training import Noise
from utils.training.nonfinite import NonFiniteGuard
from utils.training.state import TrainState

NAN, INF = math.nan, math.inf


class Spoilt(Noise):
    """Calls a function before each of the given batches of epoch 0."""

    def __init__(self, spoil: dict[int, Callable[[], object]]) -> None:
        super().__init__()
        self.spoil = spoil

    def epoch(self, epoch, start=0):
        for number, batch in enumerate(super().epoch(epoch, start), start):
            if epoch == 0 and number in self.spoil:
                changed = self.spoil[number]()
                yield batch if changed is None else changed(batch)
            else:
                yield batch


def spoil_labels(batch):
    targets = batch.targets.clone()
    targets[0, 2:] = torch.tensor([0.5, 0.5, INF, NAN])
    targets[1] = NAN
    return type(batch)(batch.images, targets, batch.indices, batch.paths)


def factor(state: TrainState, value: float) -> Callable[[], None]:
    """Multiply the next loss."""
    criterion = state.criterion

    def once() -> None:
        def call(*arguments):
            state.criterion = criterion
            total, terms = criterion(*arguments)
            return total * value, terms

        state.criterion = call

    return once


ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    RuntimeError("not enough memory: you tried to allocate 100 bytes."),
    MemoryError("Unable to allocate 1 GiB"),
)


@contextmanager
def small_memory(state: TrainState, row: int, *, images: int = 0, calls: tuple[int, ...] = (), backward: bool = False) -> Iterator[None]:
    """Fail in `row` for more than `images` images at once, or in its calls of these numbers."""
    count = 0

    def forward(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal count
        count += 1
        output = output[0] if isinstance(output, list) else output
        wrong = count in calls if calls else len(output) > images
        if wrong and backward:
            output.register_hook(fail)
        elif wrong:
            fail()

    def fail(_: object = None) -> None:
        raise ERRORS[count % len(ERRORS)]

    handle = state.layers[row].register_forward_hook(forward)
    yield
    handle.remove()


def poison(state: TrainState, where: str) -> None:
    with torch.no_grad():
        if where == "weight":
            next(state.model.parameters()).view(-1)[3] = NAN
        elif where == "class weight":  # which a batch without objects never looks at
            state.layers[-1].m[0].bias[7] = INF
        elif where == "statistics":
            state.layers[3].bn.running_var[1] = INF
        elif where == "momentum":
            next(iter(state.optimizer.state.values()))["momentum_buffer"].view(-1)[0] = NAN
        else:
            next(iter(state.ema.module.state_dict().values())).view(-1)[0] = NAN


def guard_with_checkpoint(state: TrainState) -> tuple[NonFiniteGuard, list[tuple[int, int]]]:
    """A guard that restores the present state; the list counts the times."""
    model, ema, optimizer = (copy.deepcopy(x.state_dict()) for x in (state.model, state.ema.module, state.optimizer))
    times = []

    def restore() -> tuple[int, int]:
        state.model.load_state_dict(model)
        state.ema.module.load_state_dict(ema)
        state.optimizer.load_state_dict(copy.deepcopy(optimizer))
        times.append((0, 0))
        return 0, 0

    return NonFiniteGuard(state, restore), times
