"""RepLKNet, a stage a row: very large depthwise kernels (Ding et al., CVPR 2022, arXiv:2203.06717)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.arguments import four_stages, positive
from models.attention.tokens import DropPath
from models.backbones.stage_rows import stage_plan
from models.layers.merged import BranchedConv
from models.registry import LayerPlan, Row, Rule, Scale, Width, register
from utils.errors import UserError


def _conv(channels: int, out: int, size: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), *([nn.ReLU(inplace=True)] if act else []))


class LargeKernelBlock(nn.Module):
    """Batch norm, 1x1, a large depthwise kernel beside a small one, 1x1, and a residual (arXiv:2203.06717, figure 4).

    Large and small kernel, each with a batch norm, are one convolution after fusing (section 3, guideline 3).

    Args:
        channels: width C of input and output.
        kernel: side of the large kernel, odd.
        small: side of the small kernel, odd.
        ratio: inner width / C.
        drop_path: probability of dropping the residual branch for a sample in training.

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, kernel: int, small: int, ratio: float, drop_path: float) -> None:
        super().__init__()
        inner = int(channels * ratio)
        positive(self, inner=inner)
        self.norm = nn.BatchNorm2d(channels)
        self.widen = _conv(channels, inner)
        self.large = BranchedConv(inner, inner, (kernel, small), g=inner, identity=False)
        for part in self.large.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps, part.momentum = 1e-5, 0.1
        self.act = nn.ReLU()
        self.narrow = _conv(inner, channels, act=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.narrow(self.act(self.large(self.widen(self.norm(x))))))


class ConvFFN(nn.Module):
    """Batch norm, 1x1 to `ratio` times the width, GELU, 1x1 back, and a residual (arXiv:2203.06717, figure 4).

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, ratio: float, drop_path: float) -> None:
        super().__init__()
        inner = int(channels * ratio)
        positive(self, inner=inner)
        self.norm = nn.BatchNorm2d(channels)
        self.layers = nn.Sequential(_conv(channels, inner, act=False), nn.GELU(), _conv(inner, channels, act=False))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.layers(self.norm(x)))


def _stem(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001  published widths
    """[width, channels of the image, widths of the stages]."""
    if len(row.args) != 3 or not isinstance(row.args[2], tuple | list) or len(row.args[2]) != 4 or row.args[1] not in inputs:
        raise UserError(f"a row is [width, channels of its input, widths of the four stages], not {list(row.args)}")
    return stage_plan(row, inputs, row.args[2][0], row.args[2][0])


@register(_stem, name="RepLKNet_Stem", example=(16, 3, (16, 24, 32, 48)), inputs=(3,))
class RepLKNetStem(nn.Sequential):
    """RepLKNet's stem: 3x3 of stride 2, depthwise 3x3, 1x1, depthwise 3x3 of stride 2 (arXiv:2203.06717, section 4.1).

    Args:
        channels: width of the input.
        out: width C of the output, the published one, not scaled.

    Shape:
        (B, channels, H, W) -> (B, C, ceil(H / 4), ceil(W / 4))
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(_conv(channels, out, 3, 2), _conv(out, out, 3, groups=out), _conv(out, out), _conv(out, out, 3, 2, out))


def _stage(stage: int) -> Rule:
    """[width, widths, kernels, depths, drop path, small kernel, ratio of the large kernel, ratio of the MLP]."""

    def rule(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001  published widths
        lists = row.args[1:4]
        if len(lists) != 3 or any(not isinstance(given, tuple | list) or len(given) != 4 for given in lists):
            raise UserError(f"a row is [width, widths, kernels and depths of the four stages, drop path, ...], not {list(row.args)}")
        return stage_plan(row, inputs, row.args[1][min(stage, 3)], stage, *row.args[1:])

    return rule


_EXAMPLE = ((8, 16, 24, 32), (7, 5, 5, 3), (1, 1, 1, 1), 0.0, 3, 1, 2)


@register(_stage(4), name="RepLKNet_stage4", example=(32, *_EXAMPLE), inputs=(32,))
@register(_stage(3), name="RepLKNet_stage3", example=(32, *_EXAMPLE), inputs=(24,))
@register(_stage(2), name="RepLKNet_stage2", example=(24, *_EXAMPLE), inputs=(16,))
@register(_stage(1), name="RepLKNet_stage1", example=(16, *_EXAMPLE), inputs=(8,))
class RepLKNetStage(nn.Sequential):
    """One stage of RepLKNet and the transition after it, a 1x1 and a depthwise 3x3 of stride 2 (arXiv:2203.06717, section 4.1).

    The row's width is that of its output: the next stage's, or the last one's own, without a transition. Widths are the published ones,
    not scaled. A depthwise convolution of side 31 takes far more than 2x a 3x3 convolution's time without a kernel made for it.

    Args:
        channels: width of the input.
        stage: 1 to 4.
        widths, kernels, depths: of the four stages; side of the large kernels, blocks.
        drop_path: stochastic depth of the network's last block, growing linearly from 0 at its first.
        small: side of the small kernels.
        dw_ratio: inner width of the blocks of large kernels / their width.
        ffn_ratio: inner width of the MLPs / their width.

    Shape:
        (B, channels, H, W) -> (B, the next stage's width, ceil(H / 2), ceil(W / 2)), at stage 4 (B, channels, H, W)

    Raises:
        ValueError: an input of another width than the stage's.
    """

    def __init__(
        self,
        channels: int,
        stage: int,
        widths: Sequence[int] = (128, 256, 512, 1024),
        kernels: Sequence[int] = (31, 29, 27, 13),
        depths: Sequence[int] = (2, 2, 18, 2),
        drop_path: float = 0.3,
        small: int = 5,
        dw_ratio: float = 1,
        ffn_ratio: float = 4,
    ) -> None:
        super().__init__()
        four_stages(self, depths)
        if channels != widths[stage - 1]:
            raise ValueError(f"{type(self).__name__}: stage {stage} reads {widths[stage - 1]} channels, not {channels}")
        first, last = sum(depths[: stage - 1]), max(sum(depths) - 1, 1)
        for i in range(first, first + depths[stage - 1]):
            rate = drop_path * i / last
            self.append(LargeKernelBlock(channels, kernels[stage - 1], small, dw_ratio, rate))
            self.append(ConvFFN(channels, ffn_ratio, rate))
        if stage < 4:
            out = widths[stage]
            self.append(_conv(channels, out))
            self.append(_conv(out, out, 3, 2, out))
