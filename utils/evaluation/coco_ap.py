"""Average precision as COCO defines it, computed by faster-coco-eval on any data set.

101 recall points, the 100 most confident detections of a class in an image, IoU 0.50 to 0.95, and the areas small (below
32² pixels), medium and large (above 96²). Crowd regions are ignored: they are no objects, and what lies in them is no mistake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.log import LOG

AREAS = ("all", "small", "medium", "large")
MAX_DETECTIONS = 100

_PAIRS_AT_ONCE = 2_000_000  # the library holds an entry for each image and class; classes go through in groups to bound it


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What an image holds and what was found in it, in pixels of the source image.

    Attributes:
        predictions: (k, 6) float32 xyxy, confidence, class; most confident first.
        labels: (m,) int64 classes.
        boxes: (m, 4) float32 xyxy.
        area: (m,) float64 in square pixels, which decides about small, medium and large.
        crowd: (m,) bool; a crowd region stands for an unknown number of objects.
    """

    predictions: NDArray[np.float32]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class CocoAP:
    """AP per class, (nc,) float64 each; NaN where there is no such object."""

    ap: NDArray[np.float64]
    ap50: NDArray[np.float64]
    ap75: NDArray[np.float64]
    small: NDArray[np.float64]
    medium: NDArray[np.float64]
    large: NDArray[np.float64]


def coco_ap(records: Sequence[Record], nc: int) -> CocoAP:
    """Measure the predictions of `records` for each of `nc` classes."""
    precision = np.full((10, 101, nc, len(AREAS)), -1.0)
    instances = np.zeros(nc, np.int64)
    for record in records:
        instances += np.bincount(record.labels[~record.crowd], minlength=nc)
    present = np.flatnonzero(instances)
    group = max(_PAIRS_AT_ONCE // max(len(records), 1), 1)
    for first in range(0, len(present), group):
        some = present[first : first + group]
        precision[:, :, some] = _precision(records, some)
    values = np.where(precision > -1, precision, np.nan)
    return CocoAP(
        ap=_mean(values[..., 0], (0, 1)),
        ap50=_mean(values[0, ..., 0], 0),
        ap75=_mean(values[5, ..., 0], 0),
        small=_mean(values[..., 1], (0, 1)),
        medium=_mean(values[..., 2], (0, 1)),
        large=_mean(values[..., 3], (0, 1)),
    )


def _mean(values: NDArray[np.float64], axis: int | tuple[int, ...]) -> NDArray[np.float64]:
    """The mean over `axis`, NaN where all is NaN (a class has a value for every threshold and recall, or for none)."""
    return np.asarray(values.mean(axis), np.float64)


def _precision(records: Sequence[Record], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Precision at (IoU threshold, recall point, class, area), -1 where there is no object."""
    from faster_coco_eval import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    truth, found = COCO(), COCO()
    truth.dataset = _dataset(len(records), classes, _truths(records, classes))
    found.dataset = _dataset(len(records), classes, _detections(records, classes))
    truth.createIndex()
    found.createIndex()
    evaluation = COCOeval_faster(truth, found, "bbox", print_function=LOG.debug)
    evaluation.params.maxDets = [MAX_DETECTIONS]
    assert list(evaluation.params.areaRngLbl) == list(AREAS)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"], np.float64)[..., 0]


def _dataset(images: int, classes: NDArray[np.int64], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": int(c)} for c in classes],
        "annotations": annotations,
    }


def _truths(records: Sequence[Record], classes: NDArray[np.int64]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, record in enumerate(records):
        keep = np.isin(record.labels, classes)
        boxes = _xywh(record.boxes[keep])
        columns = (boxes, record.labels[keep].tolist(), record.area[keep].tolist(), record.crowd[keep].tolist())
        for box, label, area, crowd in zip(*columns, strict=True):
            row = {"image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
            rows.append({**row, "id": len(rows) + 1})  # 0 would read as "unmatched"
    return rows


def _detections(records: Sequence[Record], classes: NDArray[np.int64]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, record in enumerate(records):
        found = record.predictions[np.isin(record.predictions[:, 5], classes)]
        for box, score, label in zip(_xywh(found[:, :4]), found[:, 4].tolist(), found[:, 5].astype(np.int64).tolist(), strict=True):
            row = {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            rows.append({**row, "score": score, "id": len(rows) + 1})
    return rows


def _xywh(xyxy: NDArray[np.float32]) -> list[list[float]]:
    wide = xyxy.astype(np.float64)
    wide[:, 2:] -= wide[:, :2]
    return wide.tolist()
