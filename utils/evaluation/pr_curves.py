"""Precision and recall over the confidence, and AP as YOLOv5 computes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.coco_ap import count_objects
from utils.evaluation.image_result import ImageResult
from utils.evaluation.matching import IOU_THRESHOLDS, in_crowd, match

POINTS = 1000
"""Points of a curve over the confidence, 0 to 1."""

_EPS = 1e-16


@dataclasses.dataclass(frozen=True, slots=True)
class Curves:
    """Curves of the classes that have objects, at IoU 0.5; one line per class.

    Attributes:
        classes: (k,) class ids.
        confidence: (1000,) the axis of the next three.
        precision, recall, f1: (k, 1000).
        envelope: (k, 1000) precision over recall, on the axis 0 to 1, made monotonic.
        yolov5_ap: (k, 10) AP at each IoU threshold, integrated as YOLOv5 does.
        best: the point of the confidence axis where the smoothed mean F1 is largest.
    """

    classes: NDArray[np.int64]
    confidence: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    envelope: NDArray[np.float64]
    yolov5_ap: NDArray[np.float64]
    best: int


def compute_curves(images: Sequence[ImageResult], nc: int) -> Curves:
    """Rank the detections of all images by confidence and follow precision and recall down the ranking."""
    hits = np.concatenate([np.zeros((0, len(IOU_THRESHOLDS)), bool), *map(match, images)])
    ignored = np.concatenate([np.zeros(0, bool), *map(in_crowd, images)])
    detections = np.concatenate([np.zeros((0, 6), np.float32), *(image.detections for image in images)])
    return follow(hits, ignored[:, None], detections[:, 4], detections[:, 5], count_objects(images, nc))


def follow(
    hits: NDArray[np.bool_], ignored: NDArray[np.bool_], conf: NDArray[np.floating], cls: NDArray[np.generic], instances: NDArray[np.int64]
) -> Curves:
    """Follow precision and recall down the ranking of d detections.

    Args:
        hits: (d, 10) true positives at each IoU threshold.
        ignored: (d, 10), or (d, 1) for all thresholds: neither true nor false positives.
        conf, cls: (d,).
        instances: (nc,) objects of each class.
    """
    classes = np.flatnonzero(instances)
    order = np.argsort(-conf, kind="stable")
    hits, ignored, conf, cls = hits[order], ignored[order], conf[order].astype(np.float64), cls[order]
    axis = np.linspace(0, 1, POINTS)
    points = np.linspace(0, 1, 101)  # YOLOv5's AP is the area under the envelope by the trapezoid rule; COCO's the mean of the points
    precision, recall, envelope = (np.zeros((len(classes), POINTS)) for _ in range(3))
    ap = np.zeros((len(classes), len(IOU_THRESHOLDS)))
    for k, c in enumerate(classes):
        own = cls == c
        if not own.any():
            continue
        true = hits[own].cumsum(0, dtype=np.float64)  # after each detection, at each threshold
        false = (~hits[own] & ~ignored[own]).cumsum(0, dtype=np.float64)
        p, r = true / np.maximum(true + false, 1), true / (instances[c] + _EPS)
        precision[k] = np.interp(-axis, -conf[own], p[:, 0], left=1)
        recall[k] = np.interp(-axis, -conf[own], r[:, 0], left=0)
        envelope[k] = np.interp(axis, *_envelope(p[:, 0], r[:, 0]))
        ap[k] = [np.trapezoid(np.interp(points, *_envelope(p[:, t], r[:, t])), points) for t in range(len(IOU_THRESHOLDS))]
    f1 = 2 * precision * recall / (precision + recall + _EPS)
    best = int(_smooth(f1.mean(0)).argmax()) if len(classes) else 0
    return Curves(classes, axis, precision, recall, f1, envelope, ap, best)


def _envelope(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall from 0 to 1, and over it the largest precision at that recall or a higher one."""
    ends = np.concatenate(([1.0], precision, [0.0]))
    return np.concatenate(([0.0], recall, [1.0])), np.maximum.accumulate(ends[::-1])[::-1]


def _smooth(values: NDArray[np.float64], share: float = 0.1) -> NDArray[np.float64]:
    """Box filter over `share` of the curve (101 of 1000 points), its ends extended."""
    taps = round(len(values) * share * 2) // 2 + 1
    padded = np.pad(values, taps // 2, mode="edge")
    return np.convolve(padded, np.full(taps, 1 / taps), mode="valid")
