"""The loss of a head with auxiliary predictions (YOLOv7; Wang et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from utils.training.losses.loss import DetectionLoss, Terms

_SHARE = 0.25


class AuxiliaryLoss(DetectionLoss):
    """`DetectionLoss` of the lead's maps, plus a quarter of the same of the auxiliary ones, which are there in training only.

    Both are assigned by anchor ratio; YOLOv7's coarse-to-fine assignment by the lead's predictions is not used.
    """

    def __call__(self, maps: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, Terms]:
        levels = len(self.head.anchors)
        total, terms = super().__call__(maps[:levels], targets)
        if len(maps) == levels:
            return total, terms
        extra: tuple[Tensor, dict[str, Any]] = super().__call__(maps[levels:], targets)
        return total + _SHARE * extra[0], {name: term + _SHARE * extra[1][name] for name, term in terms.items()}
