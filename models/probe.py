"""Running a network once, row by row, to find the shapes and strides of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.build import row_errors
from models.heads.head import Head
from models.registry import Row, Width
from models.size_limit import OversizeError, activations_bounded
from models.spec.model_spec import ModelSpec
from utils.errors import UserError

_SIZES = (64, 128, 256)


def shape_of(output: Any) -> Any:
    """Shape of a tensor, or a list of the shapes of several."""
    return tuple(output.shape) if isinstance(output, Tensor) else [shape_of(o) for o in output]


def run_rows(layers: nn.ModuleList, spec: ModelSpec, image: Tensor) -> Iterator[tuple[Row, list[Any], Any]]:
    """Yield each row with its inputs and its output for `image`, in evaluation mode.

    Raises:
        UserError: a row does not accept its inputs; names the row and the shapes.
    """
    training = [module for module in layers.modules() if module.training]
    layers.eval()
    outputs: list[Any] = []
    limits = activations_bounded()
    try:
        for row, layer in zip(spec.rows, layers, strict=True):
            inputs = [outputs[s] if s >= 0 else image for s in row.sources]
            try:
                with torch.no_grad(), row_errors(spec, row), limits:
                    outputs.append(layer(inputs[0] if len(inputs) == 1 else inputs))
                    limits.keep(outputs[-1])
            except UserError as error:
                raise type(error)(
                    f"{error}; its inputs have the shapes {', '.join(str(shape_of(i)) for i in inputs)}{_fit(row, inputs)}"
                ) from error
            yield row, inputs, outputs[-1]
    finally:
        for module in training:
            module.training = True


def _fit(row: Row, inputs: Sequence[Any]) -> str:
    """A suggestion to upsample the smaller inputs, if their sizes differ."""
    maps = [(source, m) for source, m in zip(row.sources, inputs, strict=True) if isinstance(m, Tensor) and m.dim() == 4]
    height = max((m.shape[2] for _, m in maps), default=0)
    small = {source: height // m.shape[2] for source, m in maps if m.shape[2] < height and height % m.shape[2] == 0}
    rows = ", ".join(f"[{source}, 1, nn.Upsample, [null, {factor}, nearest]]" for source, factor in small.items())
    return f"; sizes have to be equal: read {rows} instead" if rows else ""


def measure_strides(layers: nn.ModuleList, spec: ModelSpec, widths: Sequence[Width]) -> tuple[list[float], int]:
    """Measure, in a forward pass, the stride of each level of the head and the largest stride of any row.

    Tries larger images if a small one fails or leaves a single cell, which has no stride.

    Raises:
        UserError: the network does not run, or the width of an output is not that of the row's rule.
    """
    for size in _SIZES[:-1]:
        try:
            strides, deepest = _strides(layers, spec, widths, size)
        except OversizeError:
            raise
        except UserError:
            continue
        if max(strides) < size:
            return strides, deepest
    return _strides(layers, spec, widths, _SIZES[-1])


def _strides(layers: nn.ModuleList, spec: ModelSpec, widths: Sequence[Width], size: int) -> tuple[list[float], int]:
    device = next(layers.parameters()).device
    maps: list[Tensor] = []
    deepest = 1
    for row, _, output in run_rows(layers, spec, torch.zeros(1, spec.ch, size, size, device=device)):
        layer = layers[row.index]
        if isinstance(layer, Head):
            maps = output
        else:
            place, width = f"{spec.where}: {row}", widths[row.index]
            if not isinstance(output, Tensor | list | tuple):
                raise UserError(f"{place}: gives {type(output).__name__}; a module gives a tensor, a backbone a list of them")
            found = output.shape[1] if isinstance(output, Tensor) else tuple(o.shape[1] for o in output)
            if found != width:
                raise UserError(f"{place}: gives {found} channels, but its rule says {width}; the rule or the arguments are wrong")
            sides = [t.shape[2] for t in ([output] if isinstance(output, Tensor) else output) if t.dim() == 4]
            # A map of one cell may be the result of pooling.
            deepest = max([deepest, *(size // side for side in sides if side > 1 and size % side == 0)])
    strides = [size / level.shape[2] for level in maps]
    return strides, max(deepest, int(max(strides)))
