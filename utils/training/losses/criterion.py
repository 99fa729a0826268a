"""The criterion that trains a model's head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from models.detector import Detector
from utils.config import Hyp
from utils.distributed import SINGLE, Ranks
from utils.training.losses.box_losses import BoxLoss
from utils.training.losses.loss import DetectionLoss, Terms


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


def build_criterion(model: Detector, hyp: Hyp, imgsz: int, *, label_smoothing: float = 0.0, ranks: Ranks = SINGLE) -> Criterion:
    """Build the loss of a model.

    Args:
        model: the detector; what the loss needs of its head is read at each call, as the head may move to another device.
        hyp: names and gains of the losses.
        imgsz: side of the training images in pixels.
        label_smoothing: epsilon of the class targets.
        ranks: the processes that share the global batch.

    Raises:
        UserError: an unknown loss.
    """
    return DetectionLoss(model.head, hyp, imgsz, model.nc, label_smoothing=label_smoothing, ranks=ranks)
