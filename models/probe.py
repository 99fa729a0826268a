"""Running a network once, row by row, to see what each row really gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.build import row_errors
from models.head import Detect
from models.registry import Row, Width
from models.spec import ModelSpec
from utils.errors import UserError


def shape_of(output: Any) -> Any:
    """Shape of a tensor, or a list of the shapes of several."""
    return tuple(output.shape) if isinstance(output, Tensor) else [shape_of(o) for o in output]


@torch.no_grad()
def run_rows(layers: nn.ModuleList, spec: ModelSpec, image: Tensor) -> Iterator[tuple[Row, Any]]:
    """Yield each row with its output for `image`, in evaluation mode.

    Raises:
        UserError: a row cannot take what its sources give; names the row and the shapes.
    """
    training = [m for m in layers.modules() if m.training]
    layers.eval()
    outputs: list[Any] = []
    try:
        for row, layer in zip(spec.rows, layers, strict=True):
            inputs = [outputs[s] if s >= 0 else image for s in row.sources]
            try:
                with torch.no_grad(), row_errors(spec, row):
                    outputs.append(layer(inputs[0] if len(inputs) == 1 else inputs))
            except UserError as error:
                raise UserError(f"{error} (its inputs have the shapes {', '.join(str(shape_of(i)) for i in inputs)})") from error
            yield row, outputs[-1]
    finally:
        for module in training:
            module.training = True


def check_row(spec: ModelSpec, row: Row, output: Any, width: Width, inputs: list[Any]) -> None:
    """Compare an output with the width its rule declared.

    Raises:
        UserError: they differ, or a gated block changed the size.
    """
    found = tuple(o.shape[1] for o in output) if isinstance(output, list | tuple) else output.shape[1]
    if found != width:
        raise UserError(f"{spec.where}: {row}: gives {found} channels, but its registration says {width}; wrong rule, or wrong arguments")
    if row.gate and shape_of(output) != shape_of(inputs[0]):
        raise UserError(
            f"{spec.where}: {row}: a gate needs a block that keeps the size; it turns {shape_of(inputs[0])} into {shape_of(output)}"
        )


def measure_strides(layers: nn.ModuleList, spec: ModelSpec, widths: Sequence[Width]) -> list[float]:
    """Pixels per cell of each level of the head, from forward passes of small images.

    Raises:
        UserError: the network does not run, or a level is not smaller than the image by one factor.
    """
    device = next(layers.parameters()).device
    for size in (64, 128, 256, 512):
        outputs: list[Any] = []
        image = torch.zeros(1, spec.ch, size, size, device=device)
        for row, output in run_rows(layers, spec, image):
            if not isinstance(layers[row.index], Detect):
                inputs = [outputs[s] if s >= 0 else image for s in row.sources]
                check_row(spec, row, output, widths[row.index], inputs)
            outputs.append(output)
        maps: list[Tensor] = outputs[-1]
        if min(m.shape[2] for m in maps) > 1:
            break
    return [size / m.shape[2] for m in maps]
