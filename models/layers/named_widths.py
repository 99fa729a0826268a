"""Rows that give an input and an output width as they are at one size of a model: YOLOv6's and PP-YOLO's in YOLOAir's YAMLs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from models.arguments import repeats_width
from models.registry import LayerPlan, Row, Rule, Scale, Width, nominal_width, only, project, stack


def _or_pair(rule: Rule) -> Rule:
    """`rule`, or, where the second argument is a width too, the pair of widths instead of a nominal one.

    ``[384, 128]`` is a block from 384 to 128 channels. At another size of the model its input is not 384 channels wide, and the output
    keeps its ratio to the input: 96 -> 32.
    """

    def either(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
        if not repeats_width(row.args[1:]):
            return rule(row, inputs, scale)
        width, named = only(row, inputs), nominal_width(row)
        rest = dataclasses.replace(row, args=row.args[1:])
        out = nominal_width(rest)
        if width != named:
            out = math.ceil(out * width / named / scale.divisor) * scale.divisor
        return rule(dataclasses.replace(rest, args=(out, *rest.args[1:])), inputs, dataclasses.replace(scale, width=1.0, divisor=1))

    return either


project_or_pair = _or_pair(project)
"""`project`, or ``[in, out, ...]``."""

stack_or_pair = _or_pair(stack)
"""`stack`, or ``[in, out, ...]``."""
