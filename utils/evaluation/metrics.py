"""Figures of merit: gathers what was found in each image, over processes too, and measures it."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.coco_ap import CocoAP, Record, coco_ap
from utils.evaluation.confusion import confusion_matrix
from utils.evaluation.pr_curves import Curves, compute_curves
from utils.files.csv_cells import cell

if TYPE_CHECKING:
    from utils.data.index import Truth

State = dict[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class ClassMetrics:
    """A class that has objects. AP is COCO's; precision, recall and F1 are taken at the confidence of the best mean F1."""

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
    """The four figures YOLOv5 prints, computed its way."""

    precision: float
    recall: float
    map50: float
    map: float


@dataclasses.dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of a validation. Means are over the classes that have objects, and 0 when there is none.

    Attributes:
        ap, ap50, ap75: COCO's average precision over IoU 0.50 to 0.95, at 0.50, at 0.75.
        ap_small, ap_medium, ap_large: AP over objects of that area; NaN without such objects.
        precision, recall, f1: at IoU 0.5 and at `confidence`, where the smoothed mean F1 is largest.
        per_class: the classes that have objects.
        ap_per_class: (nc,) AP; a class without objects has the mean.
        confusion: (nc + 1, nc + 1) counts, row predicted, column true, last background.
        yolov5: YOLOv5's own figures.
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
        """The overall figures as plain data, None for what has no value."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.type in {"float", "int"}}
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


class Evaluator:
    """Collects predictions and truth image by image; the result does not depend on the order or on who added what.

    Args:
        names: the classes by index, 0 to nc - 1.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = dict(names)
        self._records: dict[int, Record] = {}

    def add(self, image_key: int, predictions: NDArray[np.float32], truth: Truth) -> None:
        """Add an image; one that was added before is replaced.

        Args:
            image_key: the image's number in the index.
            predictions: (k, 6) xyxy in source pixels, confidence, class.
            truth: its objects and crowd regions.
        """
        rows = np.asarray(predictions, np.float32).reshape(-1, 6)
        self._records[int(image_key)] = Record(
            rows[np.argsort(-rows[:, 4], kind="stable")],
            np.asarray(truth.cls).astype(np.int64).reshape(-1),
            np.asarray(truth.xyxy, np.float32).reshape(-1, 4),
            np.asarray(truth.area, np.float64).reshape(-1),
            np.asarray(truth.crowd, bool).reshape(-1),
        )

    def predictions(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Each image's number and its (k, 6) predictions, in the order of the numbers."""
        for key in sorted(self._records):
            yield key, self._records[key].predictions

    def state(self) -> State:
        """What was added, as flat arrays: small to send to another process."""
        records = list(self._records.values())
        empty = Record(np.zeros((0, 6), np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0, bool))
        flat = {f.name: np.concatenate([getattr(r, f.name) for r in [empty, *records]]) for f in dataclasses.fields(Record)}
        flat["key"] = np.array(list(self._records), np.int64)
        flat["found"] = np.array([len(r.predictions) for r in records], np.int64)
        flat["objects"] = np.array([len(r.labels) for r in records], np.int64)
        return flat

    def merge(self, state: State) -> None:
        """Add what another process's `state` holds. An image that both saw counts once."""
        found = np.split(state["predictions"], np.cumsum(state["found"])[:-1])
        columns = ("labels", "boxes", "area", "crowd")
        objects = [np.split(state[name], np.cumsum(state["objects"])[:-1]) for name in columns]
        for i, key in enumerate(state["key"].tolist()):
            self._records[key] = Record(found[i], *(column[i] for column in objects))

    def compute(self) -> Metrics:
        """Measure what was added."""
        records = [self._records[key] for key in sorted(self._records)]
        nc = len(self.names)
        coco, curves = coco_ap(records, nc), compute_curves(records, nc)
        per_class = tuple(_classes(records, self.names, coco, curves))
        p, r, f1 = (_mean(c[:, curves.best]) for c in (curves.precision, curves.recall, curves.f1))
        ap = _mean(coco.ap)
        return Metrics(
            ap=ap,
            ap50=_mean(coco.ap50),
            ap75=_mean(coco.ap75),
            ap_small=_mean(coco.small, math.nan),
            ap_medium=_mean(coco.medium, math.nan),
            ap_large=_mean(coco.large, math.nan),
            precision=p,
            recall=r,
            f1=f1,
            confidence=float(curves.confidence[curves.best]),
            images=len(records),
            instances=sum(c.instances for c in per_class),
            per_class=per_class,
            ap_per_class=np.where(np.isnan(coco.ap), ap, coco.ap),
            confusion=confusion_matrix(records, nc),
            curves=curves,
            yolov5=YoloV5Metrics(p, r, _mean(curves.yolov5_ap[:, 0]), _mean(curves.yolov5_ap)),
        )


def _mean(values: NDArray[np.float64], otherwise: float = 0.0) -> float:
    """The mean of what is not NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else otherwise


def _classes(records: list[Record], names: Mapping[int, str], coco: CocoAP, curves: Curves) -> Iterator[ClassMetrics]:
    counts = np.zeros((2, len(names)), np.int64)
    for record in records:
        own = np.bincount(record.labels[~record.crowd], minlength=len(names))
        counts += np.stack((own > 0, own))
    for k, c in enumerate(curves.classes.tolist()):
        p, r, f1 = (float(curve[k, curves.best]) for curve in (curves.precision, curves.recall, curves.f1))
        yield ClassMetrics(c, names[c], int(counts[0, c]), int(counts[1, c]), p, r, f1, float(coco.ap50[c]), float(coco.ap[c]))


def write_per_class(path: Path, metrics: Metrics) -> None:
    """Write a CSV with a row for each class that has objects."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow([f.name for f in dataclasses.fields(ClassMetrics)])
        for row in metrics.per_class:
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else cell(str(v)) for v in dataclasses.astuple(row)])
