"""Speed and memory side by side with YOLOv5, in turn and in separate processes: medians and ratios.

pip install --no-deps --target FOLDER yolov5 ultralytics pandas psutil python-dateutil pytz seaborn six "setuptools<80" tzdata \\
    "huggingface_hub<0.25" roboflow requests-toolbelt python-dotenv pillow-avif-plugin
python -m benchmarks.yolov5 FOLDER                     all cases
python -m benchmarks.yolov5 FOLDER --cases forward     those whose name contains a word
python -m benchmarks.yolov5 FOLDER --busy 1            beside a process that computes all the time

YOLOv5 (AGPL) is not part of Attune and is installed outside its environment. Both run on the same torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

from benchmarks.loader import cpu_seconds
from benchmarks.train_step import ROOT
from benchmarks.validation import SHARED

WORKS: dict[str, tuple[Any, ...]] = {
    "mosaic of 640 px, images not kept": ("loading", 640),
    "mosaic of 320 px, images not kept": ("loading", 320),
    "training step, yolov5n, 320 px, batch 16": ("step",),
    "training epoch with loader, the same": ("epoch",),
    "validation, yolov5n, 640 px, batch 32": ("validation",),
    "NMS at confidence 0.001, batch 32": ("nms", 0.001),
    "NMS at confidence 0.25, single images": ("nms", 0.25),
    "file to boxes, yolov5n, 640 px": ("file_to_boxes", 640),
    "file to boxes, yolov5n, 320 px": ("file_to_boxes", 320),
    "forward, yolov5n, 640 px": ("forward", "yolov5n", 640),
    "forward, yolov5n, 320 px": ("forward", "yolov5n", 320),
    "forward, yolov5s, 640 px": ("forward", "yolov5s", 640),
    "forward, yolov5s, 320 px": ("forward", "yolov5s", 320),
}
"""Each case: a function of both `attune` and `theirs`, and what it is called with."""
IMAGE = SHARED / "coco128" / "images" / "train2017" / "000000000009.jpg"
DETECT = ["--weights", str(SHARED / "yolov5n.pt"), "--source", str(IMAGE), "--project", "SCRATCH"]
BUILD = {"YOLOv5": "from yolov5.models.yolo import DetectionModel as build", "Attune": "from models import build_model as build"}
COMMANDS = {
    "train.py --help": {"YOLOv5": ["-m", "yolov5.train", "--help"], "Attune": [str(ROOT / "train.py"), "--help"]},
    "import of what builds a model": {who: ["-c", line] for who, line in BUILD.items()},
    "detect.py, start to end, one image": {"YOLOv5": ["-m", "yolov5.detect", *DETECT], "Attune": [str(ROOT / "detect.py"), *DETECT]},
}
"""Whole processes, from start to end."""


class Figures(NamedTuple):
    """CPU ms and wall ms of an image, or of a command; peak resident memory of the first process in MB."""

    cpu: float
    wall: float
    peak: float


def main() -> None:
    """Print a table of all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="the folder in which the package yolov5 is installed")
    parser.add_argument("--cases", nargs="+", default=[""], metavar="WORD", help="measure what has one of these words in its name")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute all the time beside what is measured")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder is None:
        print(f"skipped: YOLOv5 is not installed\n{__doc__}")
        return
    folder = str(Path(args.folder).resolve())
    if args.measure:
        sys.path.append(folder)  # last, so that Attune's own packages have priority
        measure(*args.measure)
        return
    print(f"{processor()}; {args.busy} busy processes; medians of {args.rounds}\n")
    print("| | YOLOv5: CPU ms, per second | Attune: CPU ms, per second | CPU time | wall time | peak memory, Attune / YOLOv5 |")
    print("|---|--:|--:|--:|--:|--:|")
    with busy(args.busy):
        for case in (case for case in (*WORKS, *COMMANDS) if any(word in case for word in args.cases)):
            figures: dict[str, list[Figures]] = {"YOLOv5": [], "Attune": []}
            for _ in range(args.rounds):
                for who, found in figures.items():
                    found.append(run(case, who, folder))
            print(line(case, *(Figures(*map(statistics.median, zip(*found, strict=True))) for found in figures.values())), flush=True)


def line(case: str, theirs: Figures, ours: Figures) -> str:
    """A row of the table."""
    cells = [f"{it.cpu:.3g}, {1e3 / it.wall:.3g}" for it in (theirs, ours)]
    memory = f"{ours.peak:.0f} / {theirs.peak:.0f} MB = {ours.peak / theirs.peak:.2f}"
    return f"| {' | '.join([case, *cells, f'{ours.cpu / theirs.cpu:.2f}', f'{ours.wall / theirs.wall:.2f}', memory])} |"


def run(case: str, who: str, folder: str) -> Figures:
    """Measure in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        font = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
        shutil.copyfile(font, Path(scratch, "Arial.ttf"))  # else YOLOv5 downloads one
        environment = os.environ | {"YOLOV5_CONFIG_DIR": scratch, "WANDB_MODE": "disabled", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
        command, where = ["-m", "benchmarks.yolov5", folder, "--measure", case, who], str(ROOT)
        if case in COMMANDS:
            command = ["-c", WATCH, sys.executable, *(part.replace("SCRATCH", scratch) for part in COMMANDS[case][who])]
            if who == "YOLOv5":
                where, environment["PYTHONPATH"] = scratch, folder
        done = subprocess.run([sys.executable, *command], cwd=where, env=environment, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("measured ")]
    if not lines:
        raise SystemExit(f"{case}, {who}: {done.stderr.strip()[-2000:]}")
    return Figures(*map(float, lines[0][1:]))


WATCH = """
import resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=sys.stderr)
used, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
if not done.returncode:
    print("measured", (used.ru_utime + used.ru_stime) * 1e3, wall * 1e3, used.ru_maxrss / 1024)
"""


def measure(case: str, who: str) -> None:
    """Run the work once as a warm-up and once to measure, and print the figures."""
    name, *arguments = WORKS[case]
    side = importlib.import_module("benchmarks.yolov5.attune" if who == "Attune" else "benchmarks.yolov5.theirs")
    with tempfile.TemporaryDirectory() as folder:
        work = getattr(side, name)(folder, *arguments)
        work()
        wall, used = time.perf_counter(), cpu_seconds()
        images = work()
        wall, used = time.perf_counter() - wall, cpu_seconds() - used
        print("measured", used / images * 1e3, wall / images * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` processes computing meanwhile."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def processor() -> str:
    """Its name, the cores that this process may use, its vector units, and the version of torch."""
    import torch

    from utils.device import cpu_count, cpu_has_bf16, processor_name

    name, units = processor_name(torch.device("cpu")), torch.backends.cpu.get_cpu_capability()
    return f"{name}, {cpu_count()} cores, {units}, {'with' if cpu_has_bf16() else 'without'} bf16 units; torch {torch.__version__}"


if __name__ == "__main__":
    main()
