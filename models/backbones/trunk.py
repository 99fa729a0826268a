"""RegNetY-400MF, EfficientNet-B0 and MobileNetV3-small in three rows each, of torchvision's layers.

torchvision, which takes seconds to import, is imported when a row is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from models.backbones.stage_rows import fold_torchvision, stage_plan
from models.registry import LayerPlan, Row, Rule, Scale, Width, register


class TrunkPart(nn.Sequential):
    """A third of a network: to stride 8, from there to stride 16, from there to stride 32; with random weights.

    Stochastic depth and the norms' settings are the published ones. Widths are the published ones, too, not scaled.

    Args:
        channels: width of the input: the image's, or that of the part before.
        part: 1 to 3.

    Shape:
        (B, channels, H, W) -> (B, the part's width, H / 8, W / 8) at part 1, else H / 2, W / 2; rounded up

    Raises:
        ValueError: another input than the network's.
    """

    widths: tuple[int, int, int, int]
    """Width of the image and of the three parts."""
    ends: tuple[int, int, int, int]
    """Index of each part's first layer, and the number of layers."""

    def __init__(self, channels: int, part: int) -> None:
        if channels != self.widths[part - 1]:
            raise ValueError(f"{type(self).__name__}: part {part} reads {self.widths[part - 1]} channels, not {channels}")
        super().__init__(*self.layers()[self.ends[part - 1] : self.ends[part]])

    @staticmethod
    def layers() -> Sequence[nn.Module]:
        """All layers of the network, without its classifier."""
        raise NotImplementedError

    def fuse(self) -> None:
        """Fold the batch norms."""
        fold_torchvision(self)


def _part(part: int, out: int) -> Rule:
    """[width]: a part of a network."""

    def rule(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001  published widths
        return stage_plan(row, inputs, out, part)

    return rule


_DROPPED = {"gradients": "in training, stochastic depth drops whole branches of a batch of one"}


def _parts(name: str, exempt: Mapping[str, str] | None = None) -> Callable[[type[TrunkPart]], type[TrunkPart]]:
    """Class decorator: register the three parts as ``name1`` to ``name3``."""

    def add(build: type[TrunkPart]) -> type[TrunkPart]:
        for part in (1, 2, 3):
            out = build.widths[part]
            register(_part(part, out), name=f"{name}{part}", example=(out,), inputs=(build.widths[part - 1],), exempt=exempt)(build)
        return build

    return add


@_parts("RegNet")
class RegNetPart(TrunkPart):
    """A third of RegNetY-400MF (Radosavovic et al., CVPR 2020, arXiv:2003.13678, table 4); see `TrunkPart`.

    Shape:
        (B, 3, H, W) -> (B, 104, H / 8, W / 8); (B, 104, H, W) -> (B, 208, H / 2, W / 2); (B, 208, H, W) -> (B, 440, H / 2, W / 2)
    """

    widths = (3, 104, 208, 440)
    ends = (0, 3, 4, 5)

    @staticmethod
    def layers() -> Sequence[nn.Module]:
        from torchvision.models.regnet import BlockParams, RegNet

        # Its table, as `regnet_y_400mf` computes it; that needs values, which a model without memory does not have.
        network = RegNet(BlockParams([1, 3, 6, 6], [48, 104, 208, 440], [8] * 4, [1.0] * 4, [2] * 4, se_ratio=0.25))
        return [network.stem, *network.trunk_output]


@_parts("Efficient", _DROPPED)
class EfficientNetPart(TrunkPart):
    """A third of EfficientNet-B0 (Tan & Le, ICML 2019, arXiv:1905.11946, table 1); see `TrunkPart`.

    Shape:
        (B, 3, H, W) -> (B, 40, H / 8, W / 8); (B, 40, H, W) -> (B, 112, H / 2, W / 2); (B, 112, H, W) -> (B, 1280, H / 2, W / 2)
    """

    widths = (3, 40, 112, 1280)
    ends = (0, 4, 6, 9)

    @staticmethod
    def layers() -> Sequence[nn.Module]:
        from torchvision.models import efficientnet_b0

        return list(efficientnet_b0().features)


@_parts("MobileNet")
class MobileNetV3Part(TrunkPart):
    """A third of MobileNetV3-small (Howard et al., ICCV 2019, arXiv:1905.02244, table 2); see `TrunkPart`.

    Shape:
        (B, 3, H, W) -> (B, 24, H / 8, W / 8); (B, 24, H, W) -> (B, 48, H / 2, W / 2); (B, 48, H, W) -> (B, 576, H / 2, W / 2)
    """

    widths = (3, 24, 48, 576)
    ends = (0, 4, 9, 13)

    @staticmethod
    def layers() -> Sequence[nn.Module]:
        from torchvision.models import mobilenet_v3_small

        return list(mobilenet_v3_small().features)
