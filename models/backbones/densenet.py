"""DenseNet, a block or transition a row (Huang et al., CVPR 2017, arXiv:1608.06993), of torchvision's layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.arguments import positive
from models.backbones.stage_rows import stage_plan
from models.layers.conv import fold_members
from models.registry import LayerPlan, Row, Rule, Scale, Width, only, register
from utils.errors import UserError

_GROWTH = 32
_STEM = 64


class DenseStem(nn.Sequential):
    """7x7 of stride 2, batch norm, ReLU, and a 3x3 maximum pool of stride 2.

    Shape:
        (B, channels, H, W) -> (B, 64, ceil(H / 4), ceil(W / 4))
    """

    def __init__(self, channels: int) -> None:
        conv = nn.Conv2d(channels, _STEM, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(conv.weight)
        super().__init__(conv, nn.BatchNorm2d(_STEM), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))

    def fuse(self) -> None:
        """Fold the batch norm."""
        fold_members(self, ("0", "1"))


class DenseTransition(nn.Module):
    """Batch norm, ReLU, a 1x1 to half of the width, a 2x2 average pool (arXiv:1608.06993, section 3, compression 0.5).

    Shape:
        (B, C, H, W) -> (B, C / 2, ceil(H / 2), ceil(W / 2))
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        from torchvision.models import DenseNet

        self.transition = DenseNet(1, (1, 1), channels - 1, num_classes=1).features.get_submodule("transition1")
        self.transition.pool = nn.AvgPool2d(
            2, 2, ceil_mode=True, count_include_pad=False
        )  # torchvision's drops an odd border, and fails on one pixel

    def forward(self, x: Tensor) -> Tensor:
        return self.transition(x)


def _stages(depths: Sequence[int]) -> Rule:
    """[width, stage, part]: the stem, or the block or transition of a stage."""

    def rule(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001  published widths
        width = only(row, inputs)
        stage, part = row.args[1:] if len(row.args) == 3 else (-1, None)
        if part == "densenet_input":
            return stage_plan(row, inputs, _STEM, build=DenseStem)
        if stage in range(3) and part == "densenet_transition_layer":
            return stage_plan(row, inputs, width // 2, build=DenseTransition)
        if stage in range(4) and part == "densenet_layer":
            return stage_plan(row, inputs, width + _GROWTH * depths[stage], depths[stage])
        raise UserError(
            "a row is [64, 0, densenet_input], [width, stage from 0 to 3, densenet_layer] or [width, stage from 0 to 2, "
            f"densenet_transition_layer], not {list(row.args)}"
        )

    return rule


@register(_stages((6, 12, 48, 32)), name="Densenet201", example=(224, 0, "densenet_layer"))
@register(_stages((6, 12, 32, 32)), name="Densenet169", example=(224, 0, "densenet_layer"))
@register(_stages((6, 12, 24, 16)), name="Densenet121", example=(224, 0, "densenet_layer"))
class DenseBlock(nn.Module):
    """A dense block: each layer reads all maps before it and adds 32 of its own (arXiv:1608.06993, eq. 2, table 1).

    Three rows make a stage of the network: the stem or a transition, and the block. Widths are the published ones, not scaled. The
    norm after the last block is the classifier's, which is not built.

    Args:
        channels: width of the input.
        depth: layers.

    Shape:
        (B, channels, H, W) -> (B, channels + 32 * depth, H, W)
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        positive(self, depth=depth)
        from torchvision.models import DenseNet

        self.block = DenseNet(_GROWTH, (depth,), channels, num_classes=1).features.get_submodule("denseblock1")

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)

    def fuse(self) -> None:
        """Fold each layer's second batch norm; the first stands before its convolution, behind it is a ReLU."""
        for layer in self.block.children():
            fold_members(layer, ("conv1", "norm2"))
