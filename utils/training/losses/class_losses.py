"""Class and objectness losses by name, ``cls_loss:`` and ``obj_loss:`` of the hyper-parameters; all are sigmoid losses of one element."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.errors import UserError, nearest

NAMES = ("bce", "focal", "quality-focal", "varifocal", "slide")
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
QUALITY_BETA = 2.0
VARI_ALPHA, VARI_GAMMA = 0.75, 2.0
_LEAST_MEAN = 0.2  # of Slide: below it nearly all samples would count as hard


@dataclasses.dataclass(frozen=True, slots=True)
class ClassLoss:
    """A binary loss per element.

    Attributes:
        name: one of `NAMES`.
        weight: of the positive part of the cross-entropy.
        gamma: of ``focal``; above 0 it makes ``bce`` focal too (YOLOv5's fl_gamma).
    """

    name: str = "bce"
    weight: float = 1.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UserError(f"unknown class loss {self.name!r}{nearest(self.name, NAMES)}; there are {', '.join(NAMES)}")

    @property
    def plain(self) -> bool:
        """Whether it is the cross-entropy, without weights."""
        return self.name == "bce" and self.weight == 1 and self.gamma == 0

    def __call__(self, logits: Tensor, target: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return the loss of each element: (...), (...) in 0..1 -> (...).

        Args:
            logits: before the sigmoid.
            target: 0 or 1, or between them.
            quality: IoU of the boxes that the elements belong to, broadcastable, which ``slide`` weighs by; by default `target`.
        """
        weight = None if self.weight == 1 else logits.new_tensor(self.weight)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=weight)
        if self.name == "focal" or (self.name == "bce" and self.gamma > 0):
            return loss * focal_weight(logits, target, self.gamma or FOCAL_GAMMA)
        if self.name == "quality-focal":
            return loss * (target - logits.sigmoid()).abs() ** QUALITY_BETA
        if self.name == "varifocal":
            return loss * torch.where(target > 0, target, VARI_ALPHA * logits.sigmoid() ** VARI_GAMMA)
        if self.name == "slide":
            return loss * slide_weight(target if quality is None else quality)
        return loss


def focal_weight(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Weight of the focal loss (Lin et al., ICCV 2017), interpolated between target 0 and 1 as in YOLOv5."""
    p = logits.sigmoid()
    error = target * (1 - p) + (1 - target) * p
    alpha = target * FOCAL_ALPHA + (1 - target) * (1 - FOCAL_ALPHA)
    return alpha * error**gamma


@torch.no_grad()
def slide_weight(quality: Tensor) -> Tensor:
    """Weight of the slide loss (Yu et al., YOLO-FaceV2, arXiv:2208.02019), by IoU against the mean IoU m of all that are above 0.

    1 up to m - 0.1, e^(1 - m) up to m, e^(1 - IoU) from there on.
    """
    positive = quality > 0
    mean = ((quality * positive).sum() / positive.sum().clamp(min=1)).clamp(min=_LEAST_MEAN)
    hard = torch.where(quality < mean, (1 - mean).exp(), (1 - quality).exp())
    return torch.where(quality <= mean - 0.1, torch.ones_like(quality), hard)
