"""Loading, the training step and NMS beside YOLOv5 itself, each run in a process of its own, in turn: CPU ms and img/s.

pip install --no-deps --target FOLDER yolov5 ultralytics pandas psutil python-dateutil pytz seaborn six "setuptools<80" tzdata
python -m benchmarks.yolov5 FOLDER

YOLOv5 is not part of Attune and stays outside its environment: both run on the same torch. Its licence is the AGPL.
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
from pathlib import Path
from typing import Any

from benchmarks.nms import CONF, IOU, predictions
from benchmarks.train_step import ROOT, Repeated, trainee
from benchmarks.validation import SHARED

COCO128 = SHARED / "coco128"
BATCH, STEPS, ROUNDS = 16, 10, 3
CASES = {"loading 640": "mosaic of 640 px, nothing kept", "loading 320": "mosaic of 320 px, nothing kept"} | {
    "step": "training yolov5n, 320 px, batch 16",
    "nms": "NMS at conf 0.001",
}

Work = Callable[[], int]
"""Does a piece of work and returns for how many images."""


def our_loading(imgsz: int, folder: str) -> Work:
    """An epoch over coco128."""
    from unittest.mock import patch

    from utils.config import Hyp
    from utils.data import store
    from utils.data.config import load_data
    from utils.data.index import load_index
    from utils.data.loader import train_loader

    index = load_index(load_data(COCO128 / "coco128.yaml"), "train", cache_dir=folder)
    with patch.object(store, "AUTOMATIC", 0):
        loader = train_loader(index, imgsz=imgsz, batch_size=BATCH, hyp=Hyp(), seed=0, workers=0)
    return lambda: sum(len(batch.images) for batch in loader.epoch(0))


def their_loading(imgsz: int, folder: str) -> Work:
    """The same; it writes a cache beside the labels, so it gets a copy."""
    from yolov5.utils.dataloaders import LoadImagesAndLabels

    copy = shutil.copytree(COCO128, Path(folder) / "coco128")
    images = LoadImagesAndLabels(str(copy / "images" / "train2017"), imgsz, BATCH, augment=True, hyp=their_hyp(), stride=32)
    return lambda: sum(len(images[i]) > 0 for i in range(len(images)))


def our_step() -> Work:
    """Some steps on one batch, as train.py does them."""
    from utils.engine import train_one_epoch

    subject, loader = trainee(BATCH, 320, "auto", STEPS), Repeated(BATCH, 320, STEPS)

    def work() -> int:
        train_one_epoch(subject, loader, 0, lambda *_: None)  # type: ignore[arg-type]
        return STEPS * BATCH

    return work


def their_step() -> Work:
    """Some steps on the same batch with YOLOv5's model, loss, optimizer and average."""
    import torch
    from yolov5.models.yolo import DetectionModel
    from yolov5.utils.loss import ComputeLoss
    from yolov5.utils.torch_utils import ModelEMA, smart_optimizer

    hyp = their_hyp()
    model = DetectionModel(str(their_folder() / "models" / "yolov5n.yaml"), ch=3, nc=80)
    model.hyp = hyp | {"obj": hyp["obj"] * (320 / 640) ** 2, "label_smoothing": 0.0}
    optimizer = smart_optimizer(model, "SGD", hyp["lr0"], hyp["momentum"], hyp["weight_decay"])
    average, loss, batch = ModelEMA(model), ComputeLoss(model), Repeated(BATCH, 320, STEPS).batch
    model.train()

    def work() -> int:
        for _ in range(STEPS):
            loss(model(batch.images.float() / 255), batch.targets)[0].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            optimizer.zero_grad()
            average.update(model)
        return STEPS * BATCH

    return work


def our_nms() -> Work:
    """NMS of coco128."""
    import torch

    from utils.nms import non_max_suppression

    batches = predictions()

    def work() -> int:
        with torch.inference_mode():
            return sum(len(non_max_suppression(pred, CONF, IOU, multi_label=True)) for pred in batches)

    return work


def their_nms() -> Work:
    """The same with YOLOv5's, which changes what it gets: a copy."""
    import torch
    from yolov5.utils.general import non_max_suppression

    batches = predictions()

    def work() -> int:
        with torch.inference_mode():
            return sum(len(non_max_suppression(pred.clone(), CONF, IOU, multi_label=True)) for pred in batches)

    return work


def their_folder() -> Path:
    """Where the package lies."""
    import yolov5

    return Path(yolov5.__file__).parent


def their_hyp() -> dict[str, Any]:
    """Its hyper-parameters for training from scratch; Attune's defaults are the same."""
    import yaml

    hyp: dict[str, Any] = yaml.safe_load((their_folder() / "data" / "hyps" / "hyp.scratch-low.yaml").read_text())
    return hyp


def measure(case: str, who: str) -> None:
    """Work once to warm up, then once more, and print CPU ms and wall ms an image."""
    with tempfile.TemporaryDirectory() as folder:
        name, _, size = case.partition(" ")
        make: Callable[..., Work] = globals()[f"{who}_{name}"]
        work = make(int(size), folder) if size else make()
        work()
        wall, cpu = time.perf_counter(), time.process_time()
        images = work()
        print(f"measured {(time.process_time() - cpu) / images * 1e3} {(time.perf_counter() - wall) / images * 1e3}")


def run(case: str, who: str, folder: str) -> tuple[float, float]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.yolov5", folder, "--case", case, who]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("measured ")]
    if not lines:
        raise SystemExit(f"{case}, {who}: {done.stderr.strip()[-2000:]}")
    return float(lines[0][1]), float(lines[0][2])


def main() -> None:
    """Print two lines a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="where the package yolov5 was installed")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder is None:
        print(f"left out: YOLOv5 is not here\n{__doc__}")
        return
    folder = str(Path(args.folder).resolve())
    sys.path.append(folder)  # last, so that what Attune needs is its own
    if args.case:
        measure(*args.case)
        return
    for case, words in CASES.items():
        figures: dict[str, list[tuple[float, float]]] = {"their": [], "our": []}
        for _ in range(ROUNDS):
            for who, found in figures.items():
                found.append(run(case, who, folder))
        theirs, ours = ([statistics.median(column) for column in zip(*figures[who], strict=True)] for who in ("their", "our"))
        print(words)
        for name, (cpu, wall) in (("YOLOv5", theirs), ("Attune", ours)):
            print(f"    {name}  {cpu:6.1f} CPU ms/img  {1e3 / wall:6.0f} img/s")
        print(f"    {ours[0] / theirs[0]:.2f} of the processor time, {theirs[1] / ours[1]:.2f} times the speed", flush=True)


if __name__ == "__main__":
    main()
