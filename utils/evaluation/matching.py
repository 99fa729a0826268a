"""Which prediction found which object: YOLOv5's rule, used for precision and recall, and the confusion matrix's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.coco_ap import Record

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


def match(record: Record) -> NDArray[np.bool_]:
    """Tell the true positives of an image at each of the 10 IoU thresholds: (k, 10).

    A prediction stands for the object of its class that it overlaps most, and for no other. Of several predictions that stand for
    one object, the most confident finds it.
    """
    boxes, labels = record.boxes[~record.crowd], record.labels[~record.crowd]
    hit = np.zeros((len(record.predictions), len(IOU_THRESHOLDS)), bool)
    if not len(boxes) or not len(hit):
        return hit
    overlap = _iou(boxes, record.predictions[:, :4]) * (labels[:, None] == record.predictions[None, :, 5])
    best, value = overlap.argmax(0), overlap.max(0)
    for column, threshold in enumerate(IOU_THRESHOLDS):
        candidates = np.flatnonzero(value >= threshold)
        hit[candidates[np.unique(best[candidates], return_index=True)[1]], column] = True
    return hit


def in_crowd(record: Record) -> NDArray[np.bool_]:
    """Tell the predictions that lie by half or more in a crowd region of their class: (k,). When unmatched, these are no mistakes."""
    if not record.crowd.any():
        return np.zeros(len(record.predictions), bool)
    boxes, labels = record.boxes[record.crowd], record.labels[record.crowd]
    inside = _intersection(boxes, record.predictions[:, :4]) / np.maximum(_area(record.predictions[:, :4]), 1e-9)
    return ((inside >= 0.5) & (labels[:, None] == record.predictions[None, :, 5])).any(0)


def pair(record: Record, *, confidence: float, iou: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pair predictions above `confidence` with objects of any class that they overlap by more than `iou`, one to one.

    A prediction takes the object it overlaps most; of several, the one with the largest overlap gets it.

    Returns:
        The rows of the predictions considered, and of the pairs the rows in `predictions` and in the objects without crowds.
    """
    considered = np.flatnonzero(record.predictions[:, 4] > confidence)
    boxes = record.boxes[~record.crowd]
    if not len(boxes) or not len(considered):
        return considered, considered[:0], considered[:0]
    overlap = _iou(boxes, record.predictions[considered, :4])
    best, value = overlap.argmax(0), overlap.max(0)
    order = np.argsort(-value, kind="stable")
    order = order[value[order] > iou]
    winners = order[np.unique(best[order], return_index=True)[1]]
    return considered, considered[winners], best[winners]


def _area(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])


def _intersection(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4), (M, 4) xyxy -> (N, M)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return np.asarray(np.maximum(sides, 0).prod(2), np.float32)


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4), (M, 4) xyxy -> (N, M)."""
    inter = _intersection(a, b)
    return np.asarray(inter / np.maximum(_area(a)[:, None] + _area(b)[None] - inter, 1e-9), np.float32)
