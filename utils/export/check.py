"""The check that every export has to pass: the written file is read back, run, and compared with torch."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from utils import geometry
from utils.boxes import cxcywh_to_xyxy
from utils.errors import UserError
from utils.export.format import Job
from utils.geometry import ceil_to_stride
from utils.inference.nms import non_max_suppression
from utils.inference.runtimes.exported import ExportedModel

TOLERANCE = {"float32": 1e-3, "half": 0.1, "int8": 0.25}
"""Relative difference of a box or its confidence that is allowed: of the worst box, in int8 of the median one, as single boxes change
place there; `val.py` tells what that costs."""

_CONFIDENCE = 0.001
_MIN_BOXES = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """How an exported file differs from torch.

    Attributes:
        difference: the largest relative one, or for int8 the median.
        boxes: how many were compared.
        statistic: "largest" or "median".
    """

    difference: float
    boxes: int
    statistic: str


@torch.inference_mode()
def check(job: Job, exported: ExportedModel) -> Comparison:
    """Compare an exported file with torch, at another size and batch too where these are free.

    Raises:
        UserError: they differ by more than `TOLERANCE`.
    """
    batch, _, height, width = job.cfg.shape
    shapes = [(batch, height, width)]
    if exported.fixed_shape is None:
        stride = job.model.max_stride
        shapes.append((batch + 1, ceil_to_stride(height * 0.65, stride), ceil_to_stride(width * 0.95, stride)))
    precision = "half" if job.cfg.half else "int8" if job.cfg.int8 else "float32"
    statistic = "median" if job.cfg.int8 else "largest"
    found = torch.cat([_differences(job, exported, shape) for shape in shapes])
    if not len(found):  # no detection by NMS at its threshold
        return Comparison(0.0, 0, statistic)
    difference = float(found.median() if statistic == "median" else found.max())
    if not difference <= TOLERANCE[precision]:
        limit = f"{TOLERANCE[precision]:g} is allowed for {precision}"
        raise UserError(f"what it computes differs from torch by {difference:.3g}; {limit}")
    return Comparison(difference, len(found), statistic)


def _differences(job: Job, exported: ExportedModel, shape: tuple[int, int, int]) -> Tensor:
    """Of each box that is compared."""
    images = next(job.images(*shape))
    expected = job.model(images.to(job.model.device)).cpu()
    found = exported(images)
    return _detection_differences(found, expected, job) if job.cfg.nms else prediction_differences(found, expected)


def prediction_differences(found: Tensor, expected: Tensor) -> Tensor:
    """Relative differences of (B, N, 5 + nc) predictions: of the boxes whose confidence is above 0.001, and of 100 in any case.

    Sides count relative to themselves, centres to themselves or the side, but at least to a pixel; scores to the confidence of the box.
    """
    if found.shape != expected.shape:
        return torch.full((1,), math.inf)
    found, expected = found.flatten(0, 1).double(), expected.flatten(0, 1).double()
    scores = expected[:, 4:5] * expected[:, 5:]
    conf = scores.amax(1)
    some = conf >= min(_CONFIDENCE, float(conf.topk(min(_MIN_BOXES, len(conf))).values[-1]))
    scale = torch.maximum(expected[some, :4].abs(), expected[some, 2:4].repeat(1, 2)).clamp(min=1)
    boxes = (found[some, :4] - expected[some, :4]).abs() / scale
    of_scores = (found[some, 4:5] * found[some, 5:] - scores[some]).abs() / conf[some, None].clamp(min=1e-9)
    return torch.cat((boxes, of_scores), 1).nan_to_num(math.inf).amax(1)


def _detection_differences(found: Tensor, expected: Tensor, job: Job) -> Tensor:
    """Each detection of a graph with NMS has to be one of torch's boxes; in float32 as many as torch keeps have to be there."""
    cfg, differences = job.cfg, []
    for own, boxes in zip(_detections(found, job), _rows(expected), strict=True):
        for box in own:
            same = boxes[boxes[:, 5] == box[5]]
            apart = torch.maximum(1 - geometry.iou(same[:, :4], box[:4]), (same[:, 4] - box[4]).abs() / box[4])
            differences.append(float(apart.min()) if len(apart) else math.inf)
    if not (cfg.half or cfg.int8):
        kept = [_limited(detections, cfg.topk_per_class, agnostic=cfg.agnostic_nms) for detections in _detections(expected, job)]
        if sum(min(n, cfg.topk_all) for n in kept) != len(differences):
            differences.append(math.inf)
    return torch.tensor(differences)


def _detections(pred: Tensor, job: Job) -> list[Tensor]:
    return non_max_suppression(pred, job.cfg.conf_thres, job.cfg.iou_thres, agnostic=job.cfg.agnostic_nms, max_det=10_000)


def _rows(pred: Tensor) -> Tensor:
    """(B, N, 5 + nc) -> (B, N, 6) xyxy, confidence, class id."""
    conf, cls = (pred[..., 4:5] * pred[..., 5:]).max(-1, keepdim=True)
    return torch.cat((cxcywh_to_xyxy(pred[..., :4]), conf, cls.to(pred)), -1)


def _limited(detections: Tensor, limit: int, *, agnostic: bool) -> int:
    """How many are left with at most `limit` of each class."""
    counts = [len(detections)] if agnostic else detections[:, 5].long().bincount().tolist()
    return sum(min(count, limit) for count in counts)
