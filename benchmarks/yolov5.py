"""Loading, training step and NMS compared with YOLOv5, run alternately in separate processes: CPU ms and img/s.

pip install --no-deps --target FOLDER yolov5 ultralytics pandas psutil python-dateutil pytz seaborn six "setuptools<80" tzdata
python -m benchmarks.yolov5 FOLDER

YOLOv5 (AGPL) is not part of Attune and is installed outside its environment. Both run on the same torch.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.loader import mosaic_loader
from benchmarks.nms import CONF, IOU, predictions
from benchmarks.train_step import ROOT, Repeated, train_state
from benchmarks.validation import SHARED

if TYPE_CHECKING:
    from torch import Tensor

COCO128 = SHARED / "coco128"
BATCH, STEPS, ROUNDS = 16, 10, 5

Work = Callable[[], int]
"""Runs the measured work and returns the number of images."""


def our_loading(imgsz: int, folder: str) -> Work:
    """One epoch over coco128."""
    loader = mosaic_loader(COCO128 / "coco128.yaml", imgsz, kept=False, workers=0, cache=folder)
    return lambda: sum(len(batch.images) for batch in loader.epoch(0))


def their_loading(imgsz: int, folder: str) -> Work:
    """The same with YOLOv5, on a copy of the dataset, because it writes a cache beside the labels."""
    from yolov5.utils.dataloaders import LoadImagesAndLabels

    copy = shutil.copytree(COCO128, Path(folder) / "coco128")
    images = LoadImagesAndLabels(str(copy / "images" / "train2017"), imgsz, BATCH, augment=True, hyp=their_hyp(), stride=32)
    return lambda: sum(len(images[i]) > 0 for i in range(len(images)))


def our_step(_: str) -> Work:
    """Some steps on one batch, as in train.py."""
    from utils.training.engine import train_one_epoch
    from utils.training.nonfinite import NonFiniteGuard

    state, loader = train_state(BATCH, 320, "auto", STEPS), Repeated(BATCH, 320, STEPS)
    guard = NonFiniteGuard(state)

    def work() -> int:
        train_one_epoch(state, loader, 0, guard, lambda *_: None)
        return STEPS * BATCH

    return work


def their_step(_: str) -> Work:
    """Some steps on the same batch with YOLOv5's model, loss, optimizer and EMA."""
    import torch
    from yolov5.models.yolo import DetectionModel
    from yolov5.utils.loss import ComputeLoss
    from yolov5.utils.torch_utils import ModelEMA, smart_optimizer

    hyp = their_hyp()
    model = DetectionModel(str(their_folder() / "models" / "yolov5n.yaml"), ch=3, nc=80)
    model.hyp = hyp | {"obj": hyp["obj"] * (320 / 640) ** 2, "label_smoothing": 0.0}
    optimizer = smart_optimizer(model, "SGD", hyp["lr0"], hyp["momentum"], hyp["weight_decay"])
    ema, loss, batch = ModelEMA(model), ComputeLoss(model), Repeated(BATCH, 320, STEPS).batch
    model.train()

    def work() -> int:
        for _ in range(STEPS):
            loss(model(batch.images.float() / 255), batch.targets)[0].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model)
        return STEPS * BATCH

    return work


def our_nms(_: str) -> Work:
    """NMS of coco128."""
    from utils.inference.nms import non_max_suppression

    return suppression(lambda pred: non_max_suppression(pred, CONF, IOU, multi_label=True))


def their_nms(_: str) -> Work:
    """The same with YOLOv5's NMS, on a copy, because it modifies its input."""
    from yolov5.utils.general import non_max_suppression

    return suppression(lambda pred: non_max_suppression(pred.clone(), CONF, IOU, multi_label=True))


def suppression(suppress: Callable[[Tensor], list[Tensor]]) -> Work:
    """Apply `suppress` to every batch of coco128."""
    import torch

    batches = predictions()

    def work() -> int:
        with torch.inference_mode():
            return sum(len(suppress(pred)) for pred in batches)

    return work


def their_folder() -> Path:
    """The folder of the package yolov5."""
    import yolov5

    return Path(yolov5.__file__).parent


def their_hyp() -> dict[str, Any]:
    """YOLOv5's hyper-parameters for training from scratch; Attune's defaults are the same."""
    import yaml

    hyp: dict[str, Any] = yaml.safe_load((their_folder() / "data" / "hyps" / "hyp.scratch-low.yaml").read_text())
    return hyp


CONTESTANTS = ("YOLOv5", "Attune")
CASES: dict[str, tuple[Callable[[str], Work], Callable[[str], Work]]] = {
    "mosaic of 640 px, nothing kept": (partial(their_loading, 640), partial(our_loading, 640)),
    "mosaic of 320 px, nothing kept": (partial(their_loading, 320), partial(our_loading, 320)),
    "training yolov5n, 320 px, batch 16": (their_step, our_step),
    "NMS at conf 0.001": (their_nms, our_nms),
}
"""Each case and, for YOLOv5 and Attune, the function that prepares its work, given a folder to write to."""


def measure(case: str, who: str) -> None:
    """Run the work once as a warm-up and once to measure, and print CPU ms and wall ms per image."""
    with tempfile.TemporaryDirectory() as folder:
        work = CASES[case][CONTESTANTS.index(who)](folder)
        work()
        wall, cpu = time.perf_counter(), time.process_time()
        images = work()
        print(f"measured {(time.process_time() - cpu) / images * 1e3} {(time.perf_counter() - wall) / images * 1e3}")


def run(case: str, who: str, folder: str) -> tuple[float, float]:
    """Measure in a separate process."""
    command = [sys.executable, "-m", "benchmarks.yolov5", folder, "--case", case, who]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("measured ")]
    if not lines:
        raise SystemExit(f"{case}, {who}: {done.stderr.strip()[-2000:]}")
    return float(lines[0][1]), float(lines[0][2])


def main() -> None:
    """Print the measurements of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="the folder in which the package yolov5 is installed")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder is None:
        print(f"skipped: YOLOv5 is not installed\n{__doc__}")
        return
    folder = str(Path(args.folder).resolve())
    sys.path.append(folder)  # last, so that Attune's own packages have priority
    if args.case:
        measure(*args.case)
        return
    for case in CASES:
        figures: dict[str, list[tuple[float, float]]] = {who: [] for who in CONTESTANTS}
        for _ in range(ROUNDS):
            for who, found in figures.items():
                found.append(run(case, who, folder))
        theirs, ours = ([statistics.median(column) for column in zip(*found, strict=True)] for found in figures.values())
        print(case)
        for who, (cpu, wall) in zip(CONTESTANTS, (theirs, ours), strict=True):
            print(f"    {who}  {cpu:6.1f} CPU ms/img  {1e3 / wall:6.0f} img/s")
        print(f"    {ours[0] / theirs[0]:.2f} of the CPU time, {theirs[1] / ours[1]:.2f} times the speed", flush=True)


if __name__ == "__main__":
    main()
