"""What CoTNet and BoTNet have in common with ResNet (He et al., CVPR 2016, arXiv:1512.03385): stem, stages, widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import four_stages
from models.layers.conv import fold_members

Block = Callable[[int, int, int, int], nn.Module]
"""(stage 1 to 4, input width, output width, stride) -> a block."""


class ResidualPyramid(nn.Module):
    """Stem of stride 4 and four stages of strides 4, 8, 16, 32; returns the four outputs.

    Args:
        channels: width of the image.
        depths: blocks a stage.
        block: makes a block.
        stem: width of the stem.

    Shape:
        (B, channels, H, W) -> four maps of widths 4, 8, 16, 32 times the stem's, sizes rounded up
    """

    def __init__(self, channels: int, depths: Sequence[int], block: Block, stem: int) -> None:
        super().__init__()
        four_stages(self, depths)
        self.conv1 = nn.Conv2d(channels, stem, 7, stride=2, padding=3, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(stem)
        width = stem
        for stage, depth in enumerate(depths, 1):
            out = stem * 2 ** (stage + 1)
            blocks = [block(stage, width if i == 0 else out, out, 2 if i == 0 and stage > 1 else 1) for i in range(depth)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            width = out

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        outputs = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            outputs.append(x)
        return outputs

    def fuse(self) -> None:
        """Fold the stem's batch norm."""
        fold_members(self, ("conv1", "bn1"))


def residual_widths(channels: int = 3, stem: int = 64, *_: object, **__: object) -> tuple[int, ...]:  # noqa: ARG001
    """Widths of the outputs of a network that takes the width of the image, then that of the stem."""
    return 4 * stem, 8 * stem, 16 * stem, 32 * stem


def published_widths(*_: object, **__: object) -> tuple[int, ...]:
    """Widths of the outputs of the published networks."""
    return residual_widths()
