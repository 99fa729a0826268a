"""The criterion that trains a model's head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from torch import Tensor

from models.detector import Detector
from utils.config import Hyp
from utils.distributed import SINGLE, Ranks
from utils.errors import UserError, nearest
from utils.training.losses.auxiliary import AuxiliaryLoss
from utils.training.losses.box_losses import BoxLoss
from utils.training.losses.loss import AnchorHead, DetectionLoss, Terms
from utils.training.losses.point_loss import DistributionLoss, ObjectnessLoss, PointHead, PointLoss


class Criterion(Protocol):
    """What training knows of a loss."""

    box_loss: BoxLoss
    """Its state carries over between batches."""

    def __call__(self, maps: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, Terms]:
        """Return the scalar to run backward from, and its weighted terms "box", "obj", "cls", detached.

        Args:
            maps: raw output of the head.
            targets: (n, 6) image, class, then cx, cy, w, h in 0..1; n may be 0.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A kind of criterion, as heads name it.

    Attributes:
        build: (model, hyp, imgsz, assigner, label_smoothing, ranks) -> criterion.
        assigners: the ones that fit; the first is the default.
    """

    build: Callable[[Detector, Hyp, int, str, float, Ranks], Criterion]
    assigners: tuple[str, ...]


def _anchors(model: Detector, hyp: Hyp, imgsz: int, _: str, smoothing: float, ranks: Ranks) -> Criterion:
    return DetectionLoss(cast("AnchorHead", model.head), hyp, imgsz, model.nc, label_smoothing=smoothing, ranks=ranks)


def _auxiliary(model: Detector, hyp: Hyp, imgsz: int, assigner: str, smoothing: float, ranks: Ranks) -> Criterion:
    head, guided = cast("AnchorHead", model.head), assigner == "lead-guided"
    return AuxiliaryLoss(head, hyp, imgsz, model.nc, guided=guided, label_smoothing=smoothing, ranks=ranks)


def _points(loss: type[PointLoss]) -> Callable[[Detector, Hyp, int, str, float, Ranks], Criterion]:
    def build(model: Detector, hyp: Hyp, _: int, assigner: str, smoothing: float, ranks: Ranks) -> Criterion:
        return loss(cast("PointHead", model.head), hyp, assigner, label_smoothing=smoothing, ranks=ranks)

    return build


CRITERIA = {
    "anchors": Kind(_anchors, ("anchor-ratio",)),
    "auxiliary": Kind(_auxiliary, ("lead-guided", "anchor-ratio")),
    "objectness": Kind(_points(ObjectnessLoss), ("simota", "task-aligned", "atss")),
    "distribution": Kind(_points(DistributionLoss), ("task-aligned", "simota", "atss")),
}
"""By the names that heads give."""


def build_criterion(model: Detector, hyp: Hyp, imgsz: int, *, label_smoothing: float = 0.0, ranks: Ranks = SINGLE) -> Criterion:
    """Build the loss that the model's head names.

    Args:
        model: the detector; what the loss needs of its head is read at each call, as the head may move to another device.
        hyp: names and gains of the losses, and the assigner's name; "" is the head's default.
        imgsz: side of the training images in pixels.
        label_smoothing: epsilon of the class targets.
        ranks: the processes that share the global batch.

    Raises:
        UserError: an unknown loss, or an assigner that does not fit the head.
    """
    kind = CRITERIA[model.head.criterion]
    assigner = hyp.assigner or kind.assigners[0]
    if assigner not in kind.assigners:
        known = sorted({name for each in CRITERIA.values() for name in each.assigners})
        what = f"does not fit {type(model.head).__name__}" if assigner in known else f"is unknown{nearest(assigner, known)}"
        raise UserError(f"assigner {assigner!r} {what}; {type(model.head).__name__} takes {' or '.join(kind.assigners)}")
    return kind.build(model, hyp, imgsz, assigner, label_smoothing, ranks)
