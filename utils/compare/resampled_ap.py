"""COCO's average precision of stored matches, for any resample of the images, thousands of times a second.

Attune computes average precision by three definitions and matchers:

- COCO's, by faster-coco-eval (`utils.evaluation.coco_ap`): the figures of validation.
- COCO's again, from stored matches (`utils.compare.match_store`, which matches as pycocotools does, and this module): equal to the first
  up to rounding, for each resample of the bootstrap.
- YOLOv5's (`utils.evaluation.matching` and `utils.evaluation.pr_curves`): other matching and interpolation, for precision, recall, curves
  and figures that are comparable with those published for YOLOv5.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from utils.compare.match_store import StoredMatches
from utils.evaluation.coco_ap import AREAS
from utils.evaluation.matching import IOU_THRESHOLDS
from utils.evaluation.pr_curves import follow

_RECALLS = np.linspace(0.0, 1.0, 101)
_EPS = np.spacing(1)  # COCO's guard against 0 / 0
_STEPS = len(IOU_THRESHOLDS)
_MAX_ELEMENTS = 20_000  # of a cumulative sum: more exceed the processor's cache


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """COCO's figures in 0..1; NaN where there is no such object.

    Attributes:
        ap, ap50, ap75: over IoU 0.50 to 0.95, at 0.50, at 0.75, all areas.
        small, medium, large: AP of objects of that area.
        per_class: (nc,) AP.
    """

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float
    per_class: NDArray[np.float64]


def average_precision(matches: StoredMatches) -> Scores:
    """Compute the figures of a run."""
    once = np.ones((1, len(matches.images)), np.int64)
    tables = [RankedDetections(matches, area).average_precision(once)[0] for area in range(len(AREAS))]
    ap, small, medium, large = (float(mean_ignoring_nan(table.ravel())) for table in tables)
    ap50, ap75 = (float(mean_ignoring_nan(tables[0][:, step])) for step in (0, 5))
    return Scores(ap, ap50, ap75, small, medium, large, per_class=tables[0].mean(1))


def precision_recall_f1(matches: StoredMatches) -> tuple[float, float, float]:
    """Means over the classes at IoU 0.5 and the confidence of the largest smoothed mean F1, which YOLOv5 takes; NaN without objects.

    COCO matches at most 100 detections of a class in an image, and each to the free object of the largest IoU, so validation's figures,
    which are matched as YOLOv5 does, may differ in the third digit.
    """
    classes = matches.object_cls[matches.object_area[:, 0]]
    ignored = matches.ignored[..., 0]
    hits = matches.matched[..., 0] & ~ignored
    curves = follow(hits, ignored, matches.score, matches.cls, np.bincount(classes, minlength=len(matches.names)))
    if not len(curves.classes):
        return np.nan, np.nan, np.nan
    precision, recall, f1 = (float(values[:, curves.best].mean()) for values in (curves.precision, curves.recall, curves.f1))
    return precision, recall, f1


class RankedDetections:
    """The detections of a run for one area, arranged for computing AP many times.

    There is a *curve* per class and IoU threshold. Its precision matters only at true positives, its *points*. The number of detections
    before a point is a difference of cumulative sums, so computing AP takes a few passes over flat arrays.

    Args:
        area: index into `AREAS`.
    """

    def __init__(self, matches: StoredMatches, area: int = 0) -> None:
        counts = ~matches.ignored[..., area].all(1)  # of a size, most detections count at no threshold
        ignored, image, cls = matches.ignored[counts, :, area], matches.image[counts], matches.cls[counts]
        self._classes = len(matches.names)
        self._image = image
        self._row, self._curve = _by_curve(matches.matched[counts, :, area] & ~ignored, cls)
        self._own_image = image[self._row]
        self._own_class = self._curve // _STEPS
        self._first_row = np.searchsorted(cls, self._own_class)
        start = np.flatnonzero(np.diff(self._curve, prepend=-1))  # first points of the curves that have any
        self._start, self._present = start, self._curve[start]
        self._first_point = np.repeat(start, np.diff(start, append=len(self._curve)))
        self._shift = 2.0 * (self._classes * _STEPS - self._curve)
        row, curve = _by_curve(ignored, cls)  # the ignored ones before each point
        self._skipped_image, total = image[row], len(image)
        key = curve * total + row
        self._skipped_from = np.searchsorted(key, self._curve * total)
        self._skipped_to = np.searchsorted(key, self._curve * total + self._row)
        self._objects = np.zeros((len(matches.images), self._classes))
        counted = matches.object_area[:, area]
        np.add.at(self._objects, (matches.object_image[counted], matches.object_cls[counted]), 1)

    def average_precision(self, weights: NDArray[np.integer]) -> NDArray[np.float64]:
        """Compute AP for each row of `weights`, (r, n) multiplicities of the images.

        Of detections with the same confidence, all copies of the first come before those of the next.

        Returns:
            (r, nc, 10) AP by class and IoU threshold; NaN for a class without objects.
        """
        count = max(_MAX_ELEMENTS // (len(self._image) + len(self._row) + len(self._skipped_image) + 1), 1)
        parts = [self._measure(weights[first : first + count]) for first in range(0, len(weights), count)]
        return np.concatenate([np.zeros((0, self._classes, _STEPS)), *parts])

    def _measure(self, weights: NDArray[np.integer]) -> NDArray[np.float64]:
        objects = weights @ self._objects
        right = _cumulative(weights[:, self._own_image])
        true = right[:, 1:] - right[:, self._first_point]
        seen = _cumulative(weights[:, self._image])
        before = seen[:, self._row + 1] - seen[:, self._first_row]
        if len(self._skipped_image):
            skipped = _cumulative(weights[:, self._skipped_image])
            before -= skipped[:, self._skipped_to] - skipped[:, self._skipped_from]
        precision = true / (before + _EPS)
        recall = true / np.maximum(objects, 1)[:, self._own_class]
        # Maximum precision at this or a higher recall: a running maximum from the end, which the shift restarts for each curve.
        shifted = np.maximum.accumulate((precision + self._shift)[:, ::-1], axis=1)[:, ::-1] - self._shift
        reached = np.searchsorted(_RECALLS, recall, side="right")
        newly = np.diff(reached, axis=1, prepend=0)
        newly[:, self._start] = reached[:, self._start]
        table = np.zeros((len(weights), self._classes * _STEPS))
        if len(self._start):
            table[:, self._present] = np.add.reduceat(shifted * newly, self._start, axis=1) / len(_RECALLS)
        return np.where(objects[..., None] == 0, np.nan, table.reshape(len(weights), self._classes, _STEPS))


def mean_ignoring_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis, ignoring NaN; NaN where all is NaN."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0).sum(-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _by_curve(flags: NDArray[np.bool_], cls: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The set elements of (d, 10) `flags`, sorted by curve, then detection: indices of the detections and of the curves."""
    row, step = np.nonzero(flags)
    curve = cls[row].astype(np.int64) * _STEPS + step
    order = np.lexsort((row, curve))
    return row[order], curve[order]


def _cumulative(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """(r, k) -> (r, k + 1) cumulative sums from 0."""
    out = np.zeros((values.shape[0], values.shape[1] + 1), np.int64)
    np.cumsum(values, axis=1, out=out[:, 1:])
    return out
