"""Training speed of yolov5n: images per second, CPU ms per image (loader workers included), peak memory.

python -m benchmarks.train_step                       on one batch, then with the loader
python -m benchmarks.train_step --data my.yaml        the loader with your dataset instead of drawn images

plain   float32 in torch's default memory layout
fp32    train.py --amp off
mixed   train.py with its defaults: on a CPU, bfloat16 where it is supported
loader  the same with the dataloader instead of one repeated batch
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

from benchmarks.loader import cpu_seconds, process_ids

CASES = ("plain", "fp32", "mixed", "loader")
ROOT = Path(__file__).resolve().parent.parent


class Repeated:
    """A loader that yields one synthetic batch repeatedly."""

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
        """Yield the batch `steps` times."""
        yield from [self.batch] * (self.steps - start)

    def close(self) -> None:
        """Do nothing: there are no workers."""


def memory(key: str, file: str, pids: list[int]) -> float:
    """A value from /proc in MB, summed over processes."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def train_state(batch: int, imgsz: int, amp: str, steps: int, *, plain: bool = False) -> Any:
    """The training state of yolov5n as in train.py, or in torch's default memory layout."""
    import torch

    from models import build_model
    from utils.config import Hyp
    from utils.device import keep_freed_memory
    from utils.training.amp import choose_precision
    from utils.training.ema import ModelEMA
    from utils.training.losses.criterion import build_criterion
    from utils.training.optim import Schedule, build_optimizer
    from utils.training.state import TrainState

    keep_freed_memory()
    device, hyp = torch.device("cpu"), Hyp()
    model = build_model("yolov5n").to(memory_format=torch.contiguous_format if plain else torch.channels_last)
    precision = choose_precision(amp, device)
    return TrainState(
        model=model,
        layers=list(model.model),
        wrapped=(lambda images: model(images.contiguous())) if plain else model,
        criterion=build_criterion(model, hyp, imgsz),
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
    """The training loader of `data`, or of a drawn dataset."""
    from utils.config import Hyp
    from utils.data.config import load_data
    from utils.data.loading.loader import train_loader
    from utils.data.scan import load_index
    from utils.data.shapes import write_dataset

    source = data or write_dataset(Path(folder), {"train": 192, "val": 1}, size=480, seed=0)
    index = load_index(load_data(source), "train", cache_dir=folder)
    return train_loader(index, imgsz=imgsz, batch_size=batch, hyp=Hyp(), seed=0, workers=workers)


def measure(args: argparse.Namespace, folder: str) -> None:
    """Train one epoch as a warm-up and one to measure, and print a line."""
    from utils.training.engine import train_one_epoch
    from utils.training.nonfinite import NonFiniteGuard

    loader: Any = Repeated(args.batch, args.imgsz, args.steps) if args.case != "loader" else None
    loader = loader or real_loader(args.data, folder, args.batch, args.imgsz, args.workers)
    amp, plain = "off" if args.case in ("plain", "fp32") else "auto", args.case == "plain"
    state = train_state(args.batch, args.imgsz, amp, len(loader), plain=plain)
    guard = NonFiniteGuard(state)
    train_one_epoch(state, loader, 0, guard, lambda *_: None)
    cpu, wall = cpu_seconds(), time.perf_counter()
    train_one_epoch(state, loader, 1, guard, lambda *_: None)
    images = len(loader) * args.batch
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    pids = process_ids()
    speed = f"{images / wall:8.1f} img/s{cpu / images * 1e3:9.1f} CPU ms/img"
    peak, shared = memory("VmHWM", "status", pids[:1]), memory("Pss:", "smaps_rollup", pids)
    dtype = str(state.precision.dtype or "float32")
    print(f"{args.case:8}{dtype:16}{speed}{peak:9.0f} MB peak RSS{shared:8.0f} MB with {len(pids) - 1} workers (PSS)")
    loader.close()


def main() -> None:
    """Measure each case in its own process, so that each has its own memory peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=("all", *CASES), default="all")
    parser.add_argument("--data", default="", help="dataset of the loader case")
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
