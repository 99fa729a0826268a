"""Which detection found which object: by YOLOv5's rule for precision and recall, and by the confusion matrix's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.image_result import ImageResult
from utils.geometry import area, intersection, iou

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


def match(image: ImageResult) -> NDArray[np.bool_]:
    """Return the true positives of an image at each of the 10 IoU thresholds: (k, 10).

    A detection is matched to the object of its class that it overlaps most, and to no other. Of several detections matched to
    one object, the most confident is the true positive.
    """
    boxes, classes = image.xyxy[~image.crowd], image.cls[~image.crowd]
    hit = np.zeros((len(image.detections), len(IOU_THRESHOLDS)), bool)
    if not len(boxes) or not len(hit):
        return hit
    overlap = iou(boxes[:, None], image.detections[None, :, :4]) * (classes[:, None] == image.detections[None, :, 5])
    best, value = overlap.argmax(0), overlap.max(0)
    for column, threshold in enumerate(IOU_THRESHOLDS):
        candidates = np.flatnonzero(value >= threshold)
        hit[candidates[np.unique(best[candidates], return_index=True)[1]], column] = True
    return hit


def in_crowd(image: ImageResult) -> NDArray[np.bool_]:
    """Return which detections lie by half or more in a crowd region of their class: (k,). Unmatched, these are no false positives."""
    if not image.crowd.any():
        return np.zeros(len(image.detections), bool)
    boxes, classes, found = image.xyxy[image.crowd], image.cls[image.crowd], image.detections[:, :4]
    inside = intersection(boxes[:, None], found[None]) / np.maximum(area(found), 1e-9)
    return ((inside >= 0.5) & (classes[:, None] == image.detections[None, :, 5])).any(0)


def pair(image: ImageResult, *, confidence: float, min_iou: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pair detections above `confidence` one to one with objects of any class that they overlap by more than `min_iou`.

    A detection is matched to the object it overlaps most; of several, the one with the largest overlap gets it.

    Returns:
        Indices of the detections considered; of the pairs, indices of the detections and of the objects without crowds.
    """
    considered = np.flatnonzero(image.detections[:, 4] > confidence)
    boxes = image.xyxy[~image.crowd]
    if not len(boxes) or not len(considered):
        return considered, considered[:0], considered[:0]
    overlap = iou(boxes[:, None], image.detections[None, considered, :4])
    best, value = overlap.argmax(0), overlap.max(0)
    order = np.argsort(-value, kind="stable")
    order = order[value[order] > min_iou]
    winners = order[np.unique(best[order], return_index=True)[1]]
    return considered, considered[winners], best[winners]
