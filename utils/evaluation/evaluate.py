"""The validation loop: a model and a split in, metrics out. val.py and train.py share it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.boxes import cxcywh_to_xyxy
from utils.device import clock, half_precision
from utils.distributed import SINGLE, Ranks, gather, sum_over_ranks
from utils.evaluation.metrics import Evaluator, Metrics
from utils.images.tensors import to_float
from utils.images.writing import optional_output
from utils.inference.nms import non_max_suppression
from utils.log import LOG
from utils.progress import Progress, terminal_width

if TYPE_CHECKING:
    from models.detector import Detector
    from models.ensemble import Ensemble
    from utils.data.index import Index
    from utils.data.loading.loader import Batch, Loader
    from utils.images.letterbox import Letterbox
    from utils.inference.runtimes.exported import ExportedModel

Criterion = Callable[[Sequence[Tensor], Tensor], tuple[Tensor, dict[str, Tensor]]]

_HEADER = ("Class", "Images", "Instances", "P", "R", "mAP50", "mAP50-95")
DRAWN_BATCHES = 3
"""Batches that are drawn."""

_CPU_BATCH = 4  # images per forward pass on a CPU: activations that fit the allocator's pool are not mapped anew for each layer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How predictions become detections.

    Attributes:
        conf: minimum confidence.
        iou: IoU above which NMS drops the less confident of two boxes.
        nms: the suppression, a name of `utils.inference.suppression`.
        max_det: maximum number of detections per image.
        classes: keep these only; load the index with the same.
        single_cls: assign every prediction class 0; load the index with the same.
        half: fp16 on CUDA, bf16 where the hardware has it.
        augment: test-time augmentation.
        hybrid: add the targets to NMS with confidence 1, which inflates every metric.
    """

    conf: float = 0.001
    iou: float = 0.6
    nms: str = "hard"
    max_det: int = 300
    classes: Sequence[int] | None = None
    single_cls: bool = False
    half: bool = False
    augment: bool = False
    hybrid: bool = False


class Evaluation(NamedTuple):
    """Metrics, mean loss terms, and ms per image for "pre-process", "inference" and "NMS"."""

    metrics: Metrics
    loss: dict[str, float] | None
    speeds: dict[str, float]


def evaluate(
    model: Detector | Ensemble | ExportedModel,
    loader: Loader,
    index: Index,
    settings: Settings | None = None,
    *,
    device: torch.device,
    criterion: Criterion | None = None,
    ranks: Ranks = SINGLE,
    plots: Path | None = None,
    evaluator: Evaluator | None = None,
    stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Run `model` over `loader` and compute the metrics of its detections.

    Args:
        model: on `device`; in eval mode during the call. A fused copy is faster and has the same metrics.
        loader: validation batches; with several ranks, this rank's share of them.
        index: the split that `loader` reads, for the ground truth.
        settings: how predictions become detections.
        criterion: a loss whose terms are reported too. It must not synchronize with other ranks, which may have fewer batches.
        ranks: the processes that share the split. All of them return the metrics of the whole split.
        plots: folder for images of the first batches, drawn by the first rank.
        evaluator: collects the detections of each image; by default a new one.
        stop: called before each batch; true skips the rest, and the metrics are meaningless then.
    """
    settings = settings or Settings()
    evaluator = evaluator or Evaluator(index.names)
    detect = _BatchDetector(model, settings, device, criterion)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for number, batch in enumerate(_progress(loader, ranks)):
                if stop is not None and stop():
                    break
                found = detect(batch)
                for i, letterbox, detections in zip(batch.indices, batch.letterboxes or (), found, strict=True):
                    evaluator.add(i, _to_source(letterbox, detections.numpy()), index.ground_truth(i))
                if plots is not None and ranks.first and number < DRAWN_BATCHES:
                    _draw(plots, number, batch, index, evaluator)
    finally:
        model.train(was_training)
    for state in gather(evaluator.state(), ranks) if ranks.world_size > 1 else ():
        evaluator.merge(state)
    metrics = evaluator.compute()
    if ranks.first:
        _log_cells(*_HEADER)
        log_row("all", metrics.images, metrics.instances, metrics.precision, metrics.recall, metrics.ap50, metrics.ap)
    return Evaluation(metrics, detect.mean_loss(ranks), detect.speeds())


def log_row(name: str, images: int, instances: int, *figures: float) -> None:
    """Print a line of the table of metrics: P, R, mAP50 and mAP50-95 of a class."""
    _log_cells(name, str(images), str(instances), *(f"{value:.3g}" for value in figures))


def _log_cells(name: str, *cells: str) -> None:
    """Print a line fitted to the terminal: columns of 11 and a name of up to 22; a narrow one shows no counts."""
    width = terminal_width()
    room = width - 11 * len(cells)
    if room >= 8:
        LOG.info("%s", name[: min(room, 22)].rjust(min(room, 22)) + "".join(f"{cell:>11}" for cell in cells))
    else:
        LOG.info("%s", f"{name[:7]:>7}" + "".join(f"{cell:>{size}}" for cell, size in zip(cells[2:], (7, 7, 8, 10), strict=True)))


def log_classes(metrics: Metrics) -> None:
    """Print a line for each class that has objects."""
    for c in metrics.per_class:
        log_row(c.name, c.images, c.instances, c.precision, c.recall, c.ap50, c.ap)


def _progress(loader: Loader, ranks: Ranks) -> Iterator[Batch]:
    """The batches, under a progress bar where there is a terminal to show it."""
    with Progress("validation", len(loader), shown=ranks.first) as progress:
        for number, batch in enumerate(loader.epoch(0), 1):
            yield batch
            progress.update(number)


class _BatchDetector:
    """Detects in batches; adds up times and losses."""

    def __init__(
        self, model: Detector | Ensemble | ExportedModel, settings: Settings, device: torch.device, criterion: Criterion | None
    ) -> None:
        assert criterion is None or not settings.augment, "test-time augmentation has no raw maps for the loss"
        self.model, self.settings, self.device, self.criterion = model, settings, device, criterion
        self.seconds = [0.0, 0.0, 0.0]
        self.images = self.batches = 0
        self.loss: dict[str, Tensor] = {}

    def __call__(self, batch: Batch) -> list[Tensor]:
        """Return for each image (k, 6) xyxy in pixels of the batch, confidence, class id; on the CPU."""
        start = clock(self.device)
        images = to_float(batch.images, self.device, torch.float32)
        targets = batch.targets.to(self.device, non_blocking=True)
        priors = _priors(targets, images) if self.settings.hybrid else None
        self.seconds[0] += clock(self.device) - start
        found: list[Tensor] = []
        raw: list[list[Tensor]] = []
        for part in images.split(_CPU_BATCH) if self.device.type == "cpu" else (images,):
            start = clock(self.device)
            pred, maps = self._forward(part)
            raw.append(maps)
            self.seconds[1] += clock(self.device) - start
            start = clock(self.device)
            found += self._select(pred, priors[len(found) : len(found) + len(part)] if priors else None)
            self.seconds[2] += clock(self.device) - start
        if self.criterion is not None:
            for name, value in self.criterion([torch.cat(level) for level in zip(*raw, strict=True)], targets)[1].items():
                self.loss[name] = self.loss.get(name, torch.zeros((), dtype=torch.float64)) + value.double().cpu()
        self.images += len(images)
        self.batches += 1
        return found

    def _forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Decoded predictions, and the raw maps when there is a loss to compute."""
        with half_precision(self.device, wanted=self.settings.half):
            if self.criterion is None:
                return (self.model.augmented(images) if self.settings.augment else self.model(images)).float(), []
            detector = cast("Detector", self.model)  # no loss is defined for an ensemble
            maps = [m.float() for m in detector.maps(images)]
            return detector.head.decode(maps), maps

    def _select(self, pred: Tensor, prior: list[Tensor] | None) -> list[Tensor]:
        s = self.settings
        classes = None if pred.shape[2] == 6 else s.classes  # a model of one class has the selected ones merged
        found = non_max_suppression(
            pred,
            s.conf,
            s.iou,
            classes=classes,
            agnostic=s.single_cls,
            multi_label=True,
            max_det=s.max_det,
            prior=prior,
            method=s.nms,
            models=getattr(self.model, "members", 1),
        )
        if s.single_cls:
            for detections in found:
                detections[:, 5] = 0
        return [detections.cpu() for detections in found]

    def mean_loss(self, ranks: Ranks) -> dict[str, float] | None:
        """Mean of each term over the batches of all ranks."""
        if self.criterion is None:
            return None
        names = ("box", "obj", "cls")
        *sums, batches = sum_over_ranks([*(float(self.loss.get(n, 0)) for n in names), self.batches], self.device, ranks)
        return {name: total / max(batches, 1) for name, total in zip(names, sums, strict=True)}

    def speeds(self) -> dict[str, float]:
        """Milliseconds per image, on this rank."""
        names = ("pre-process", "inference", "NMS")
        return {name: s / max(self.images, 1) * 1e3 for name, s in zip(names, self.seconds, strict=True)}


def _to_source(box: Letterbox, detections: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map (k, 6) xyxy, confidence, class id from pixels of the batch to pixels of the original image.

    Where the padding is odd, YOLOv5 subtracts half of it from the boxes, which is half a pixel more than lies before the image.
    Its published metrics include this, and so do these: exact boxes would gain yolov5n 0.004 of AP75 on coco128.
    """
    half = np.array([box.shape[1] - box.size[1], box.shape[0] - box.size[0]] * 2, np.float32) / 2
    shift = np.array([box.left, box.top] * 2, np.float32) - half
    return np.concatenate((box.to_source((detections[:, :4] + shift).astype(np.float32)), detections[:, 4:]), 1)


def _priors(targets: Tensor, images: Tensor) -> list[Tensor]:
    """(n, 6) image, class id, normalized cx, cy, w, h -> for each image (k, 5) class id, xyxy in pixels of the batch."""
    height, width = images.shape[2:]
    boxes = cxcywh_to_xyxy(targets[:, 2:6]) * targets.new_tensor([width, height, width, height])
    priors = torch.cat((targets[:, 1:2], boxes), 1)
    return [priors[targets[:, 0] == i] for i in range(len(images))]


def _draw(folder: Path, number: int, batch: Batch, index: Index, evaluator: Evaluator) -> None:
    """Draw the targets and the detections of a batch."""
    from utils.evaluation.batch_plots import plot_batch

    found = dict(evaluator.detections())
    with optional_output():
        plot_batch(folder / f"val_batch{number}_labels.jpg", batch, index.names)
        plot_batch(folder / f"val_batch{number}_pred.jpg", batch, index.names, [found[i] for i in batch.indices])
