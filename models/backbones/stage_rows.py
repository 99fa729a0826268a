"""Rows that build one stage of a published network: ``[width, ...]``, where the width is the stage's own and is not scaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from models.layers.conv import fold_members
from models.registry import LayerPlan, Row, Width, nominal_width, only
from utils.errors import UserError


def stage_plan(row: Row, inputs: Sequence[Width], out: int, *args: Any, build: type[nn.Module] | None = None) -> LayerPlan:
    """Plan of a stage that gives `out` channels, with constructor arguments (width of the input, `args`).

    Raises:
        UserError: the row names another width, or repeats the stage.
    """
    if (named := nominal_width(row)) != out:
        raise UserError(f"it gives {out} channels here, not {named}: the widths of a published network are not scaled")
    if row.repeats != 1:
        raise UserError(f"a stage stands once, with all its blocks: its number must be 1, not {row.repeats}")
    return LayerPlan((only(row, inputs), *args), out, build=build)


def fold_torchvision(module: nn.Module) -> None:
    """Fold the batch norms of torchvision's blocks of convolution, norm and activation, in place."""
    from torchvision.ops.misc import Conv2dNormActivation

    for block in module.modules():
        if isinstance(block, Conv2dNormActivation) and len(block) > 1:
            fold_members(block, ("0", "1"))
