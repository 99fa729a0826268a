"""Average precision as COCO defines it, computed by faster-coco-eval on any dataset.

101 recall points, the 100 most confident detections of a class in an image, IoU 0.50 to 0.95, and the areas small (below
32² pixels), medium and large (above 96²). Crowd regions are ignored: they are not objects, and detections in them are not errors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.image_result import ImageResult
from utils.log import LOG

AREAS = ("all", "small", "medium", "large")
MAX_DETECTIONS = 100

_PAIRS_AT_ONCE = 2_000_000  # the library holds an entry for each image and class; classes go through in groups to bound it


@dataclasses.dataclass(frozen=True, slots=True)
class CocoAP:
    """AP per class, (nc,) float64 each; NaN where there is no such object."""

    ap: NDArray[np.float64]
    ap50: NDArray[np.float64]
    ap75: NDArray[np.float64]
    small: NDArray[np.float64]
    medium: NDArray[np.float64]
    large: NDArray[np.float64]


def coco_ap(images: Sequence[ImageResult], nc: int) -> CocoAP:
    """Compute AP for each of `nc` classes."""
    precision = np.full((10, 101, nc, len(AREAS)), -1.0)
    present = np.flatnonzero(count_objects(images, nc))
    group = max(_PAIRS_AT_ONCE // max(len(images), 1), 1)
    for first in range(0, len(present), group):
        classes = present[first : first + group]
        precision[:, :, classes] = _precision(images, classes)
    values = np.where(precision > -1, precision, np.nan)  # a class has a value for every threshold and recall, or for none
    return CocoAP(
        ap=values[..., 0].mean((0, 1)),
        ap50=values[0, ..., 0].mean(0),
        ap75=values[5, ..., 0].mean(0),
        small=values[..., 1].mean((0, 1)),
        medium=values[..., 2].mean((0, 1)),
        large=values[..., 3].mean((0, 1)),
    )


def count_objects(images: Sequence[ImageResult], nc: int) -> NDArray[np.int64]:
    """(nc,) objects of each class, crowds left out."""
    return sum((np.bincount(image.cls[~image.crowd], minlength=nc) for image in images), np.zeros(nc, np.int64))


def _precision(images: Sequence[ImageResult], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Precision at (IoU threshold, recall point, class, area), -1 where there is no object."""
    from faster_coco_eval import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    header = {"images": [{"id": i} for i in range(len(images))], "categories": [{"id": int(c)} for c in classes]}
    ground_truth, found = COCO(), COCO()
    for coco, entries in ((ground_truth, _objects(images, classes)), (found, _detections(images, classes))):
        numbered = [entry | {"id": number} for number, entry in enumerate(entries, 1)]  # 0 would read as "unmatched"
        coco.dataset = {**header, "annotations": numbered}
        coco.createIndex()
    evaluation = COCOeval_faster(ground_truth, found, "bbox", print_function=LOG.debug)
    evaluation.params.maxDets = [MAX_DETECTIONS]
    assert list(evaluation.params.areaRngLbl) == list(AREAS)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"], np.float64)[..., 0]


def _objects(images: Sequence[ImageResult], classes: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    for image_id, image in enumerate(images):
        keep = np.isin(image.cls, classes)
        columns = (to_xywh(image.xyxy[keep]), image.cls[keep], image.area[keep], image.crowd[keep])
        for box, cls, area, crowd in zip(*(column.tolist() for column in columns), strict=True):
            yield {"image_id": image_id, "category_id": cls, "bbox": box, "area": area, "iscrowd": int(crowd)}


def _detections(images: Sequence[ImageResult], classes: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    for image_id, image in enumerate(images):
        found = image.detections[np.isin(image.detections[:, 5], classes)]
        columns = (to_xywh(found[:, :4]), found[:, 4], found[:, 5].astype(np.int64))
        for box, score, cls in zip(*(column.tolist() for column in columns), strict=True):
            yield {"image_id": image_id, "category_id": cls, "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "score": score}


def to_xywh(xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 4) left, top, right, bottom -> left, top, width, height, as COCO writes boxes."""
    return np.concatenate((xyxy[:, :2], xyxy[:, 2:].astype(np.float64) - xyxy[:, :2]), 1)
