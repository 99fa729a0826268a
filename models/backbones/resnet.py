"""What CoTNet and BoTNet have in common with ResNet (He et al., CVPR 2016, arXiv:1512.03385): stem, stages, widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import four_stages
from models.attention.tokens import DropPath, rising
from models.layers.conv import fold_members
from models.registry import pyramid, register

N = TypeVar("N", bound=nn.Module)

Block = Callable[[int, int, int, int, int], nn.Module]
"""(stage 1 to 4, block of the stage from 0, input width, output width, stride) -> a block."""


class ResidualPyramid(nn.Module):
    """Stem and four stages of strides 4, 8, 16, 32; returns the four outputs.

    Args:
        channels: width of the image.
        depths: blocks per stage.
        block: makes a block.
        stem: unit of the widths.
        deep: convolutions of a stem of stride 2 and their width; None is ResNet's 7x7, `stem` wide, and a maximum pool.
        drop_path: stochastic depth of the last block, growing linearly from 0 at the first.

    Shape:
        (B, channels, H, W) -> four maps of widths 4, 8, 16, 32 times `stem`, sizes rounded up
    """

    def __init__(
        self,
        channels: int,
        depths: Sequence[int],
        block: Block,
        stem: int,
        deep: tuple[nn.Sequential, int] | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        four_stages(self, depths)
        conv1, width = deep or (nn.Conv2d(channels, stem, 7, stride=2, padding=3, bias=False), stem)
        self.conv1: nn.Module = conv1
        self.bn1: nn.Module = nn.BatchNorm2d(width)
        self.pooled = deep is None
        rates = iter(rising(drop_path, sum(depths)))
        for stage, depth in enumerate(depths, 1):
            out, blocks = stem * 2 ** (stage + 1), nn.Sequential()
            for i in range(depth):
                stride = 2 if i == 0 and (stage > 1 or not self.pooled) else 1
                blocks.append(block(stage, i, width, out, stride))
                blocks[-1].drop_path = DropPath(next(rates))
                width = out
            self.add_module(f"layer{stage}", blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        if self.pooled:
            x = F.max_pool2d(x, 3, 2, 1)
        outputs = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            outputs.append(x)
        return outputs

    def fuse(self) -> None:
        """Fold the stem's last batch norm."""
        last = f"conv1.{len(self.conv1) - 1}" if isinstance(self.conv1, nn.Sequential) else "conv1"
        fold_members(self, (last, "bn1"))


def residual_widths(channels: int = 3, stem: int = 64, *_: object, **__: object) -> tuple[int, ...]:  # noqa: ARG001
    """Widths of the outputs of a network that takes the width of the image, then that of the stem."""
    return 4 * stem, 8 * stem, 16 * stem, 32 * stem


def published_widths(*_: object, **__: object) -> tuple[int, ...]:
    """Widths of the outputs of the published networks."""
    return residual_widths()


def publish(name: str, network: Callable[..., N], **settings: Any) -> Callable[..., N]:
    """Register a published size of a network, as ``name(channels, pretrained, drop_path)``."""

    def build(channels: int = 3, pretrained: str | None = None, drop_path: float = 0.0) -> N:
        return network(channels, pretrained=pretrained, drop_path=drop_path, **settings)

    build.__name__ = build.__qualname__ = name
    build.__module__ = network.__module__
    return register(pyramid(published_widths), inputs=(3,))(build)
