"""ResNet-vd and Res2Net, a stage a row (He et al., CVPR 2019, arXiv:1812.01187; Gao et al., TPAMI 2021, arXiv:1904.01169)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.arguments import multiple, positive
from models.backbones.stage_rows import stage_plan
from models.layers.deformable import ModulatedDeformConv, TapMoves
from models.layers.residual import ResidualBottleneck, init_resnet_weights
from models.registry import LayerPlan, Row, Rule, Scale, Width, register
from utils.errors import UserError


def _conv(channels: int, out: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def _stages(depths: Sequence[int], deform: bool = False, build: type[nn.Module] | None = None) -> Rule:
    """[width, stage, base]: the stem at stage 0, `base` channels (64 unless given); then four stages of base * 2^(stage + 1)."""

    def rule(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001  published widths
        stage, base = (*row.args[1:], 64)[:2] if 2 <= len(row.args) <= 3 else (-1, 64)
        if stage not in range(5) or not isinstance(base, int) or base < 1:
            raise UserError(f"a row is a stage: [width, stage], 0 for the stem and 1 to 4, not {list(row.args)}")
        out, depth = (base << (stage + 1), depths[stage - 1]) if stage else (base, 1)
        extra = (deform,) if stage == 4 and deform else ()
        return stage_plan(row, inputs, out, base, stage, depth, *extra, build=build)

    return rule


class _VdBottleneck(ResidualBottleneck):
    """ResNet-D's bottleneck: the stride is in the 3x3, the shortcut is an average pool and a 1x1 (arXiv:1812.01187, figure 2)."""

    def __init__(self, channels: int, out: int, stride: int, deform: bool) -> None:
        width = out // 4
        middle = _conv(width, width, stride=stride)
        if deform:
            middle[0] = ModulatedDeformConv(width, stride)
        super().__init__(channels, width, out, stride, nn.Sequential(*middle))
        if stride == 2:
            pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
            self.downsample = nn.Sequential(pool, nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))


@register(_stages((3, 4, 6, 3), deform=True), name="ResNet50vd_dcn", example=(128, 4, 4))
@register(_stages((3, 4, 23, 3)), name="ResNet101vd", example=(32, 2, 4))
@register(_stages((3, 4, 6, 3)), name="ResNet50vd", example=(32, 2, 4))
class ResNetVdStage(nn.Sequential):
    """One stage of ResNet-vd, or its deep stem of three 3x3 and a maximum pool (arXiv:1812.01187, figure 2, ResNet-D).

    In the form with deformable convolutions, the 3x3 of stage 4 are, as in PP-YOLO (arXiv:2007.12099, section 3.1). Weights start as
    there: Kaiming-normal, each bottleneck's last norm at zero. Widths are the published ones, not scaled.

    Args:
        channels: width of the input.
        base: width of the stem, 64 in the paper.
        stage: 0 for the stem, 1 to 4.
        depth: bottlenecks.
        deform: deformable 3x3 convolutions.

    Shape:
        (B, channels, H, W) -> (B, base, H / 4, W / 4) at stage 0, (B, 4 * base, H, W) at stage 1,
        else (B, 2^(stage + 1) * base, H / 2, W / 2); rounded up
    """

    def __init__(self, channels: int, base: int, stage: int, depth: int, deform: bool = False) -> None:
        if stage == 0:
            multiple(self, 2, base=base)
            layers = [*_conv(channels, base // 2, stride=2), *_conv(base // 2, base // 2), *_conv(base // 2, base), nn.MaxPool2d(3, 2, 1)]
            super().__init__(nn.Sequential(*layers))
        else:
            out, first = base << (stage + 1), 1 if stage == 1 else 2
            super().__init__(*(_VdBottleneck(out if i else channels, out, 1 if i else first, deform) for i in range(depth)))
        init_resnet_weights(self)
        for layer in self.modules():
            if isinstance(layer, TapMoves):
                layer.start_still()


class Res2Conv(nn.Module):
    """Res2Net's 3x3 convolutions: each group of channels is added to the next one's input (arXiv:1904.01169, eq. 1).

    The first block of a stage instead convolves all groups for themselves, and pools the one that else passes by, as the authors do.

    Args:
        width: channels of a group.
        scales: groups.
        stride: 2 halves the map.
        first: whether the block is the first of its stage.

    Shape:
        (B, width * scales, H, W) -> (B, width * scales, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, width: int, scales: int = 4, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        positive(self, width=width)
        self.convs = nn.ModuleList(nn.Sequential(*_conv(width, width, stride=stride)) for _ in range(scales - 1))
        self.pool = nn.AvgPool2d(3, stride, 1) if first else None

    def forward(self, x: Tensor) -> Tensor:
        *groups, last = x.chunk(len(self.convs) + 1, 1)
        outputs: list[Tensor] = []
        for conv, group in zip(self.convs, groups, strict=True):
            outputs.append(conv(group + outputs[-1] if outputs and self.pool is None else group))
        return torch.cat((*outputs, last if self.pool is None else self.pool(last)), 1)


@register(_stages((3, 4, 6, 3)), name="Res2net50", example=(32, 2, 4))
class Res2NetStage(nn.Sequential):
    """One stage of Res2Net-50 of 4 groups of 26 channels, or its stem: a 7x7 and a maximum pool (arXiv:1904.01169, section 4.1).

    Weights start as the authors': Kaiming-normal, all norms at one. Widths are the published ones, not scaled.

    Args:
        channels: width of the input.
        base: width of the stem, 64 in the paper.
        stage: 0 for the stem, 1 to 4.
        depth: bottlenecks.

    Shape:
        as of `ResNetVdStage`
    """

    def __init__(self, channels: int, base: int, stage: int, depth: int) -> None:
        if stage == 0:
            super().__init__(nn.Sequential(*_conv(channels, base, 7, 2), nn.MaxPool2d(3, 2, 1)))
        else:
            out, group = base << (stage + 1), int(base / 64 * 26) << (stage - 1)
            super().__init__()
            for i in range(depth):
                stride = 2 if i == 0 and stage > 1 else 1
                self.append(ResidualBottleneck(out if i else channels, 4 * group, out, stride, Res2Conv(group, 4, stride, i == 0)))
        init_resnet_weights(self)
        for block in self:
            if isinstance(block, ResidualBottleneck):
                nn.init.ones_(block.get_parameter("bn3.weight"))
