"""YOLOv5's head with branches of their own for classes and boxes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.heads.detect import Detect
from models.heads.tower import Tower
from models.registry import levels, register


@register(levels, example=(3, ((10, 13, 16, 30), (30, 61, 62, 45))), inputs=(16, 32))
class Decoupled_Detect(Detect):  # noqa: N801  YOLOAir's name
    """`Detect` with YOLOX's `Tower` in place of the 1x1 convolution of each level; all have the first level's width.

    Args:
        channels, classes, anchors: as in `Detect`.

    Shape:
        as `Detect`
    """

    def predictors(self, channels: Sequence[int], anchors: int) -> nn.ModuleList:
        return nn.ModuleList(Tower(c, channels[0], anchors, self.classes) for c in channels)

    def biases(self, predictor: nn.Module) -> tuple[Tensor, Tensor]:
        assert isinstance(predictor, Tower)
        return predictor.biases()
