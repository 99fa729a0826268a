"""The layers of torch.nn that a YAML may name: an allow-list."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from models.arguments import repeats_width
from models.layers.conv import batch_norm
from models.registry import LayerPlan, Row, Scale, Width, only, preserve, project, register, untouched
from utils.errors import UserError

for _layer, _example in (
    (nn.Upsample, (None, 2, "nearest")),
    (nn.MaxPool2d, (3, 1, 1)),
    (nn.AvgPool2d, (3, 1, 1)),
    (nn.ZeroPad2d, ((0, 1, 0, 1),)),
    (nn.Identity, ()),
    (nn.Dropout, (0.1,)),
    (nn.Dropout2d, (0.1,)),
    (nn.SiLU, ()),
    (nn.ReLU, ()),
    (nn.LeakyReLU, (0.1,)),
    (nn.Hardswish, ()),
    (nn.GELU, ()),
    (nn.Mish, ()),
    (nn.Sigmoid, ()),
):
    register(untouched, name=f"nn.{_layer.__name__}", example=_example)(_layer)

register(project, name="nn.Conv2d", example=(16, 1))(nn.Conv2d)


def _transposed(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """`project`; groups that are a width, those of a depthwise one, are scaled as widths are: [512, 4, 2, 1, 0, 512]."""
    args = row.args
    if repeats_width(args[5:]):
        args = (*args[:5], scale.channels(args[5]), *args[6:])
    return project(dataclasses.replace(row, args=args), inputs, scale)


register(_transposed, name="nn.ConvTranspose2d", example=(16, 2, 2))(nn.ConvTranspose2d)
register(preserve, name="nn.BatchNorm2d")(batch_norm)


def _shuffle(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001
    width, gain = only(row, inputs), row.args[0] if row.args else None
    if isinstance(gain, bool) or not isinstance(gain, int) or gain < 1 or width % gain**2:
        raise UserError(f"its factor is an integer whose square divides {width}, the width of its input, not {gain!r}")
    return LayerPlan(row.args, width // gain**2)


register(_shuffle, name="nn.PixelShuffle", example=(2,))(nn.PixelShuffle)
