"""Cost of each row of a model: parameters, operations, measured time and memory."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.detector import Detector
from models.flops import count_operations, parameters
from models.probe import run_rows

_ROUNDS = 5


class RowCost(NamedTuple):
    """Cost of a row, or of several together.

    Attributes:
        parameters: number of them.
        giga: 1e9 floating-point operations of one image.
        milliseconds: time of one image, batch norms fused; the minimum of several passes, which is least disturbed by other processes.
        mebibytes: memory saved for the backward pass of one image in training, in 2**20 bytes.
    """

    parameters: int
    giga: float
    milliseconds: float
    mebibytes: float


def measure(models: Sequence[Detector], side: int) -> list[list[RowCost]]:
    """Measure the rows of several models, alternating so that other processes affect them equally.

    Args:
        models: detectors; left unchanged.
        side: of the square image, in pixels.

    Returns:
        For each model the cost of each row.
    """
    images = [torch.rand(1, model.spec.ch, side, side) for model in models]
    times: list[list[list[float]]] = [[] for _ in models]
    folded = [copy.deepcopy(model).eval().fuse() for model in models]
    for turn in range(_ROUNDS + 1):
        for model, image, collected in zip(folded, images, times, strict=True):
            row_times = _times(model, image)
            if turn:  # the first pass pays for allocations
                collected.append(row_times)
    return [
        [
            RowCost(parameters(layer), giga, min(turns), held)
            for layer, giga, turns, held in zip(
                model.model, _operations(model, image), zip(*collected, strict=True), _held(model, image), strict=True
            )
        ]
        for model, image, collected in zip(models, images, times, strict=True)
    ]


def total(costs: Sequence[RowCost]) -> RowCost:
    """The sum."""
    return RowCost(*(sum(column) for column in zip(*costs, strict=True)))


def compared(cost: RowCost, base: RowCost) -> str:
    """Format the differences of a cost from that of the base, absolute and in percent."""
    formats = ("{:+,} parameters", "{:+.3f} GFLOPs", "{:+.1f} ms", "{:+.1f} MiB")
    return ", ".join(f"{form.format(a - b)} ({100 * (a - b) / b:+.1f} %)" for form, a, b in zip(formats, cost, base, strict=True))


def _times(model: Detector, image: Tensor) -> list[float]:
    """Milliseconds of each row."""
    steps, spent = run_rows(model.model, model.spec, image), []
    for _ in model.model:
        start = time.perf_counter()
        next(steps)
        spent.append((time.perf_counter() - start) * 1e3)
    return spent


def _operations(model: Detector, image: Tensor) -> list[float]:
    model = copy.deepcopy(model).to("meta")
    steps, counts = run_rows(model.model, model.spec, image.to("meta")), []
    for _ in model.model:
        with count_operations() as operations:
            next(steps)
        counts.append(operations.giga)
    return counts


def _held(model: Detector, image: Tensor) -> list[float]:
    """MiB that each row saves for the backward pass; what two rows save counts for the first."""
    model = copy.deepcopy(model).train()
    sizes = {t.untyped_storage().data_ptr(): 0 for t in (*model.parameters(), *model.buffers(), image)}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes.setdefault(storage.data_ptr(), storage.nbytes())  # autograd's graph keeps it alive, so no pointer is reused
        return tensor

    totals, outputs = [0], list[Any]()
    for row, layer in zip(model.spec.rows, model.model, strict=True):
        inputs = [outputs[s] if s >= 0 else image for s in row.sources]
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            outputs.append(layer(inputs[0] if len(inputs) == 1 else inputs))
        totals.append(sum(sizes.values()))
    return [(after - before) / 2**20 for before, after in pairwise(totals)]
