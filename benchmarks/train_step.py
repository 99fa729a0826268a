"""How fast yolov5n trains: images a second, CPU ms an image (loader processes included), peak memory.

python -m benchmarks.train_step                       on one batch, then with the loader
python -m benchmarks.train_step --data my.yaml        the loader on your images in place of drawn ones

plain   float32 and torch's own memory layout: what a program does that knows no better
fp32    train.py --amp off
mixed   train.py as it is, on a CPU with bfloat16
loader  the same with images that are loaded, not one batch over and over
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.loader import cpu_seconds, family

CASES = ("plain", "fp32", "mixed", "loader")
ROOT = Path(__file__).resolve().parent.parent


class Repeated:
    """A loader that yields one synthetic batch over and over."""

    def __init__(self, batch: int, imgsz: int, steps: int) -> None:
        import torch

        from utils.data.loading.loader import Batch

        generator = torch.Generator().manual_seed(0)
        targets = torch.rand(batch * 7, 6, generator=generator) * 0.5 + 0.1
        targets[:, 0] = torch.arange(batch).repeat_interleave(7)
        targets[:, 1] = torch.arange(batch * 7) % 80
        images = torch.randint(0, 256, (batch, 3, imgsz, imgsz), generator=generator, dtype=torch.uint8)
        self.batch, self.steps = Batch(images, targets, [0] * batch, [""] * batch), steps

    def __len__(self) -> int:
        return self.steps

    def epoch(self, _: int, start: int = 0) -> Iterator[Any]:
        """The same batch, `steps` times."""
        yield from [self.batch] * (self.steps - start)

    def close(self) -> None:
        """There are no workers to end."""


def memory(key: str, file: str, pids: list[int]) -> float:
    """A figure of /proc in MB, summed over processes."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def trainee(batch: int, imgsz: int, amp: str, steps: int, *, plain: bool = False) -> Any:
    """yolov5n as train.py would train it, or in torch's own memory layout."""
    import torch

    from models import build_model
    from utils.config import Hyp
    from utils.device import keep_freed_memory
    from utils.training.amp import choose_precision
    from utils.training.ema import ModelEMA
    from utils.training.engine import Trainee
    from utils.training.losses.loss import DetectionLoss
    from utils.training.optim import Schedule, build_optimizer

    keep_freed_memory()
    device, hyp = torch.device("cpu"), Hyp()
    model = build_model("yolov5n").to(memory_format=torch.contiguous_format if plain else torch.channels_last)
    precision = choose_precision(amp, device)
    return Trainee(
        model=model,
        layers=list(model.model),
        parallel=(lambda images: model(images.contiguous())) if plain else model,
        criterion=DetectionLoss(model.head, hyp, imgsz, model.nc),
        optimizer=build_optimizer(model, "SGD", hyp, batch),
        schedule=Schedule(hyp, 100, steps, batch),
        ema=ModelEMA(model),
        precision=precision,
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        seed=0,
        imgsz=imgsz,
        stride=model.max_stride,
    )


def real_loader(data: str, folder: str, batch: int, imgsz: int, workers: int) -> Any:
    """The training loader of `data`, or of drawn images."""
    from utils.config import Hyp
    from utils.data.config import load_data
    from utils.data.index import load_index
    from utils.data.loading.loader import train_loader
    from utils.data.shapes import write_dataset

    source = data or write_dataset(Path(folder), {"train": 192, "val": 1}, size=480, seed=0)
    index = load_index(load_data(source), "train", cache_dir=folder)
    return train_loader(index, imgsz=imgsz, batch_size=batch, hyp=Hyp(), seed=0, workers=workers)


def measure(args: argparse.Namespace, folder: str) -> None:
    """Train for an epoch to warm up and for one to measure, and print a line."""
    from utils.training.engine import train_one_epoch

    loader: Any = Repeated(args.batch, args.imgsz, args.steps) if args.case != "loader" else None
    loader = loader or real_loader(args.data, folder, args.batch, args.imgsz, args.workers)
    amp, plain = "off" if args.case in ("plain", "fp32") else "auto", args.case == "plain"
    subject = trainee(args.batch, args.imgsz, amp, len(loader), plain=plain)
    train_one_epoch(subject, loader, 0, lambda *_: None)
    cpu, wall = cpu_seconds(), time.perf_counter()
    train_one_epoch(subject, loader, 1, lambda *_: None)
    images = len(loader) * args.batch
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    pids = family()
    speed = f"{images / wall:8.1f} img/s{cpu / images * 1e3:9.1f} CPU ms/img"
    peak, shared = memory("VmHWM", "status", pids[:1]), memory("Pss:", "smaps_rollup", pids)
    dtype = str(subject.precision.dtype or "float32")
    print(f"{args.case:8}{dtype:16}{speed}{peak:9.0f} MB peak RSS{shared:8.0f} MB with {len(pids) - 1} workers (PSS)")
    loader.close()


def main() -> None:
    """Measure each case in a process of its own, so that each has its own peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=("all", *CASES), default="all")
    parser.add_argument("--data", default="", help="data set of the loader's case")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.case != "all":
        with tempfile.TemporaryDirectory() as folder:
            measure(args, folder)
        return
    for case in CASES:
        subprocess.run([sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:], "--case", case], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
