"""HorFPN: a feature pyramid whose output convolutions are gnConv (Rao et al., NeurIPS 2022, arXiv:2207.14284)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.gnconv import GnConv
from models.layers.residual import init_xavier_weights
from models.registry import LayerPlan, Row, Scale, Width, nominal_width, plain, register


class _Lateral(nn.Module):
    """A 1x1 convolution with the authors' state_dict keys."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def level_widths(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """Several inputs, finest first -> as many outputs of one width, the first argument."""
    widths, out = plain(row, inputs), scale.channels(nominal_width(row))
    return LayerPlan((widths, out, *row.args[1:]), (out,) * len(widths))


def _with_extra(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """As `level_widths`, with as many outputs as `num_outs` asks for."""
    plan = level_widths(row, inputs, scale)
    widths, out, *rest = plan.args
    outputs = row.keywords.get("num_outs", rest[3] if len(rest) > 3 else None)
    return dataclasses.replace(plan, out=(out,) * max(outputs if isinstance(outputs, int) else 0, len(widths)))


@register(_with_extra, example=(16, False, 32, 17, 4), inputs=(8, 16, 32))
class HorFPN(nn.Module):
    """Feature pyramid (Lin et al., CVPR 2017) with gnConv of order 2 instead of 3x3 convolutions (arXiv:2207.14284, section 4.3).

    Convolutions start Xavier-uniform with zero biases, as the authors'.

    Args:
        channels: widths of the inputs, the finest map first.
        out: width of every output.
        gf: global-local filters instead of the 7x7 depthwise convolutions.
        h, w: their native spectrum.
        num_outs: number of outputs; those beyond the inputs take every second row and column of the one before. None is that of the inputs.

    Shape:
        list of (B, C_i, H_i, W_i), each about half the size of the one before -> list of (B, out, H_i, W_i); each further output
        has half the size of the one before, rounded up

    Raises:
        ValueError: fewer outputs than inputs.
    """

    def __init__(self, channels: Sequence[int], out: int, gf: bool = False, h: int = 32, w: int = 17, num_outs: int | None = None) -> None:
        super().__init__()
        self.extra = 0 if num_outs is None else num_outs - len(channels)
        if self.extra < 0:
            raise ValueError(f"HorFPN: num_outs must be at least the number of its inputs, {len(channels)}, not {num_outs}")
        self.lateral_convs = nn.ModuleList(_Lateral(width, out) for width in channels)
        self.fpn_convs = nn.ModuleList(GnConv(out, 2, 1.0, gf, h, w) for _ in channels)
        init_xavier_weights(self)

    def forward(self, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
        levels = [x] if isinstance(x, Tensor) else x
        maps = [lateral(level) for lateral, level in zip(self.lateral_convs, levels, strict=True)]
        for i in reversed(range(len(maps) - 1)):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[2:], mode="nearest")
        outputs = [conv(level) for conv, level in zip(self.fpn_convs, maps, strict=True)]
        for _ in range(self.extra):
            outputs.append(F.max_pool2d(outputs[-1], 1, 2))
        return outputs
