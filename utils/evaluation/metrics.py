"""Metrics: collects detections and ground truth of each image, over processes too, and computes AP, precision and recall."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.coco_ap import coco_ap
from utils.evaluation.confusion import confusion_matrix, write_confusion
from utils.evaluation.image_result import ImageResult
from utils.evaluation.pr_curves import Curves, compute_curves
from utils.files.atomic import open_new, write_text
from utils.files.csv_cells import cell

if TYPE_CHECKING:
    from utils.data.index import GroundTruth

State = dict[str, NDArray[Any]]

_COLUMNS = tuple(field.name for field in dataclasses.fields(ImageResult))


@dataclasses.dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Metrics of a class that has objects: COCO's AP; precision, recall and F1 at the confidence of the best mean F1."""

    index: int
    name: str
    images: int
    instances: int
    precision: float
    recall: float
    f1: float
    ap50: float
    ap: float


@dataclasses.dataclass(frozen=True, slots=True)
class YoloV5Metrics:
    """The four metrics YOLOv5 prints, computed as YOLOv5 does."""

    precision: float
    recall: float
    map50: float
    map: float


@dataclasses.dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of a validation. Means are over the classes that have objects, and NaN where there are none: nothing was measured.

    Attributes:
        ap, ap50, ap75: COCO's average precision over IoU 0.50 to 0.95, at 0.50, at 0.75.
        ap_small, ap_medium, ap_large: AP over objects of that area.
        precision, recall, f1: at IoU 0.5 and at `confidence`, where the smoothed mean F1 is maximal.
        per_class: the classes that have objects.
        ap_per_class: (nc,) AP; a class without objects has the mean.
        confusion: (nc + 1, nc + 1) counts, row predicted, column true, last background; (0, 0) of very many classes.
        yolov5: YOLOv5's own metrics.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    precision: float
    recall: float
    f1: float
    confidence: float
    images: int
    instances: int
    per_class: tuple[ClassMetrics, ...]
    ap_per_class: NDArray[np.float64]
    confusion: NDArray[np.int64]
    curves: Curves
    yolov5: YoloV5Metrics

    def summary(self) -> dict[str, float | int | None]:
        """The overall metrics as plain data, None for NaN."""
        return plain_numbers({f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.type in {"float", "int"}})


class Evaluator:
    """Collects detections and ground truth image by image; the result does not depend on the order.

    COCO's AP is the one reported; `utils.compare.resampled_ap` names the three definitions that Attune computes.

    Args:
        names: class names by class id, 0 to nc - 1.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = dict(names)
        self._images: dict[int, ImageResult] = {}

    def add(self, index: int, detections: NDArray[np.float32], ground_truth: GroundTruth) -> None:
        """Add an image; one that was added before is replaced.

        Args:
            index: of the image in the split.
            detections: (k, 6) xyxy in pixels of the original image, confidence, class id.
            ground_truth: its objects and crowd regions.
        """
        found = np.asarray(detections, np.float32).reshape(-1, 6)
        self._images[int(index)] = ImageResult(
            found[np.argsort(-found[:, 4], kind="stable")],
            np.asarray(ground_truth.cls).astype(np.int64).reshape(-1),
            np.asarray(ground_truth.xyxy, np.float32).reshape(-1, 4),
            np.asarray(ground_truth.area, np.float64).reshape(-1),
            np.asarray(ground_truth.crowd, bool).reshape(-1),
        )

    def images(self) -> dict[int, ImageResult]:
        """The images added, by index, in its order."""
        return dict(sorted(self._images.items()))

    def detections(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Each image's index and its (k, 6) detections, in the order of the indices."""
        return ((index, image.detections) for index, image in self.images().items())

    def state(self) -> State:
        """What was added, as flat arrays: small to send to another process."""
        images = list(self._images.values())
        none = np.zeros(0)
        empty = ImageResult(np.zeros((0, 6), np.float32), none.astype(np.int64), np.zeros((0, 4), np.float32), none, none.astype(bool))
        flat = {name: np.concatenate([getattr(image, name) for image in [empty, *images]]) for name in _COLUMNS}
        flat["index"] = np.array(list(self._images), np.int64)
        flat["found"] = np.array([len(image.detections) for image in images], np.int64)
        flat["objects"] = np.array([len(image.cls) for image in images], np.int64)
        return flat

    def merge(self, state: State) -> None:
        """Add what another process's `state` holds. An image that both saw counts once."""
        parts = [np.split(state[name], np.cumsum(state["found" if name == "detections" else "objects"])[:-1]) for name in _COLUMNS]
        for i, index in enumerate(state["index"].tolist()):
            self._images[index] = ImageResult(*(part[i] for part in parts))

    def compute(self) -> Metrics:
        """Measure what was added."""
        images = list(self.images().values())
        nc = len(self.names)
        coco, curves = coco_ap(images, nc), compute_curves(images, nc)
        counts = np.zeros((nc, 2), np.int64)  # of images and of objects
        for image in images:
            own = np.bincount(image.cls[~image.crowd], minlength=nc)
            counts += np.stack((own > 0, own), 1)
        best = [c[:, curves.best] for c in (curves.precision, curves.recall, curves.f1)]
        per_class = tuple(
            ClassMetrics(c, self.names[c], int(counts[c, 0]), int(counts[c, 1]), p, r, f1, float(coco.ap50[c]), float(coco.ap[c]))
            for c, p, r, f1 in zip(curves.classes.tolist(), *(values.tolist() for values in best), strict=True)
        )
        p, r, f1 = map(_mean, best)
        ap = _mean(coco.ap)
        return Metrics(
            ap=ap,
            ap50=_mean(coco.ap50),
            ap75=_mean(coco.ap75),
            ap_small=_mean(coco.small),
            ap_medium=_mean(coco.medium),
            ap_large=_mean(coco.large),
            precision=p,
            recall=r,
            f1=f1,
            confidence=float(curves.confidence[curves.best]),
            images=len(images),
            instances=sum(c.instances for c in per_class),
            per_class=per_class,
            ap_per_class=np.where(np.isnan(coco.ap), ap, coco.ap),
            confusion=confusion_matrix(images, nc),
            curves=curves,
            yolov5=YoloV5Metrics(p, r, _mean(curves.yolov5_ap[:, 0]), _mean(curves.yolov5_ap)),
        )


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def plain_numbers(values: Mapping[str, float | int]) -> dict[str, float | int | None]:
    """The values for a JSON file, which has no NaN: None in its place."""
    return {k: None if math.isnan(v) else v for k, v in values.items()}


def write_per_class(path: Path, metrics: Metrics) -> None:
    """Write a CSV with a line per class that has objects."""
    with open_new(path) as file:
        writer = csv.writer(file)
        writer.writerow([f.name for f in dataclasses.fields(ClassMetrics)])
        for row in metrics.per_class:
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else cell(str(v)) for v in dataclasses.astuple(row)])


def write_tables(folder: Path, metrics: Metrics, names: Mapping[int, str], **more: object) -> None:
    """Write per_class.csv, confusion_matrix.csv and, last and atomically, metrics.json with `more` after the overall metrics."""
    write_per_class(folder / "per_class.csv", metrics)
    write_confusion(folder / "confusion_matrix.csv", metrics.confusion, list(names.values()))
    write_text(folder / "metrics.json", json.dumps(metrics.summary() | more, indent=2) + "\n")
