"""ConvNeXt, a stage a row (Liu et al., CVPR 2022, arXiv:2201.03545)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.arguments import four_stages
from models.attention.convnext import ConvNextBlock
from models.attention.tokens import rising
from models.backbones.stage_rows import stage_plan
from models.layers.fuse import pad_to_multiple
from models.layers.norm import ChannelNorm
from models.layers.residual import init_transformer_weights
from models.registry import LayerPlan, Row, Scale, Width, register
from utils.errors import UserError


def _stage(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001  published widths
    """[width, stage, depths, base]: width is base * 2^stage."""
    if len(row.args) < 4 or not all(isinstance(row.args[k], int) for k in (0, 1, 3)) or not 0 <= row.args[1] < 4:
        raise UserError(f"a row is a stage: [width, stage from 0 to 3, depths of all four, base], not {list(row.args)}")
    _, stage, depths, base, *rest = row.args
    return stage_plan(row, inputs, base << stage, base, stage, depths, *rest)


@register(_stage, name="ConvNeXt", example=(16, 1, (1, 2, 1, 1), 8), inputs=(8,))
class ConvNeXtStage(nn.Module):
    """One stage of ConvNeXt (arXiv:2201.03545, table 9), without the norm of an output.

    Stage 0 begins with the stem, a 4x4 of stride 4 and a norm; the others with a norm and a 2x2 of stride 2. Weights start as the
    authors': truncated normal of deviation 0.02, zero biases, layer scales of 1e-6. Widths are the published ones, not scaled.

    Args:
        channels: width of the input.
        base: width C of the network's first stage.
        stage: 0 to 3.
        depths: blocks of each of the four stages.
        drop_path: stochastic depth of the network's last block, growing linearly from 0 at its first.

    Shape:
        (B, channels, H, W) -> (B, C * 2^stage, H / 4, W / 4) at stage 0, else H / 2, W / 2; rounded up
    """

    def __init__(self, channels: int, base: int, stage: int, depths: Sequence[int] = (3, 3, 9, 3), drop_path: float = 0.0) -> None:
        super().__init__()
        four_stages(self, depths)
        width = base << stage
        self.stride = 4 if stage == 0 else 2
        shrink = nn.Conv2d(channels, width, self.stride, stride=self.stride)
        self.downsample = nn.Sequential(*((shrink, ChannelNorm(width)) if stage == 0 else (ChannelNorm(channels), shrink)))
        init_transformer_weights(self.downsample)
        first = sum(depths[:stage])
        rates = rising(drop_path, sum(depths))[first : first + depths[stage]]
        self.blocks = nn.Sequential(*(ConvNextBlock(width, drop_path=rate) for rate in rates))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(pad_to_multiple(x, self.stride)))
