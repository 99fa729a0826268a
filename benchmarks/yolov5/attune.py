"""What `python -m benchmarks.yolov5` measures of Attune; each function prepares its work, in a folder to write to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loader import mosaic_loader
from benchmarks.nms import CONF, IOU, predictions
from benchmarks.train_step import Repeated, train_state
from benchmarks.validation import DEFAULT, SHARED

if TYPE_CHECKING:
    from torch import Tensor

COCO128 = SHARED / "coco128"
WEIGHTS = SHARED / "yolov5n.pt"
BATCH, STEPS, IMAGES, PASSES = 16, 10, 32, 20

Work = Callable[[], int]
"""Runs the measured work and returns the number of images."""


def photographs() -> list[Path]:
    """The images that are detected in one by one."""
    return sorted((COCO128 / "images" / "train2017").iterdir())[:IMAGES]


def suppress_all(suppress: Callable[[Tensor], list[Tensor]], *, single: bool) -> Work:
    """Apply `suppress` to the predictions of coco128, of batches or of a single image each."""
    import torch

    batches = [part for pred in predictions() for part in (pred.split(1) if single else [pred])]

    def work() -> int:
        with torch.inference_mode():
            return sum(len(suppress(pred)) for pred in batches)

    return work


def loading(folder: str, imgsz: int) -> Work:
    """One epoch over coco128 in this process."""
    loader = mosaic_loader(COCO128 / "coco128.yaml", imgsz, kept=False, workers=0, cache=folder)
    return lambda: sum(len(batch.images) for batch in loader.epoch(0))


def step(_: str) -> Work:
    """Some training steps on one batch."""
    return _epochs(Repeated(BATCH, 320, STEPS))


def epoch(folder: str) -> Work:
    """An epoch over coco128, workers included; the images are in memory from the second one on, as train.py keeps a small dataset."""
    return _epochs(mosaic_loader(COCO128 / "coco128.yaml", 320, kept=True, workers=2, cache=folder))


def _epochs(loader: Repeated) -> Work:
    from utils.training.engine import train_one_epoch
    from utils.training.nonfinite import NonFiniteGuard

    state = train_state(BATCH, 320, "auto", len(loader))
    guard = NonFiniteGuard(state)

    def work() -> int:
        train_one_epoch(state, loader, 0, guard, lambda *_: None)
        return len(loader) * BATCH

    return work


def validation(folder: str) -> Work:
    """Validation of yolov5n on coco128 at 640 pixels, from image files to AP."""
    from utils.cli import parse
    from utils.config import ValConfig
    from val import _settings, measure, set_up

    cfg, _ = parse(ValConfig, [*DEFAULT, "--workers", "2", "--project", folder])
    bench = set_up(cfg, cfg.weights)
    return lambda: measure(bench, _settings(cfg), imgsz=cfg.imgsz)[0].metrics.images


def nms(_: str, conf: float) -> Work:
    """NMS as val.py or, at a confidence above its own, as detect.py does it."""
    from utils.inference.nms import non_max_suppression

    if conf > CONF:
        return suppress_all(lambda pred: non_max_suppression(pred, conf, 0.45), single=True)
    return suppress_all(lambda pred: non_max_suppression(pred, CONF, IOU, multi_label=True), single=False)


def file_to_boxes(_: str, imgsz: int) -> Work:
    """Detection in one file after another with yolov5n."""
    from models import load_model

    model, paths = load_model(WEIGHTS), photographs()
    return lambda: sum(len(model.predict(path, imgsz=imgsz)) for path in paths)


def forward(_: str, name: str, imgsz: int) -> Work:
    """The fused network on one square image."""
    import torch

    from models import build_model

    model = build_model(name).eval().fuse().to(memory_format=torch.channels_last)
    return passes(model, torch.rand(1, 3, imgsz, imgsz).to(memory_format=torch.channels_last))


def passes(model: Callable[[Tensor], object], image: Tensor) -> Work:
    """The same image some times."""
    import torch

    def work() -> int:
        with torch.inference_mode():
            for _ in range(PASSES):
                model(image)
        return PASSES

    return work
