"""Loading with mosaic: img/s, CPU ms per image and peak memory, summed over all processes; the first epoch is reported separately.

python -m benchmarks.loader [--data YAML] [--workers N]

The first epoch decodes the images; small datasets are then kept in shared memory. "not kept" decodes in every epoch, as for large
datasets. Process start and imports are not counted; the start of the workers is, in the first epoch.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from utils.data.loading.loader import Loader

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "coco128" / "coco128.yaml"
EPOCHS = 6


def main() -> None:
    """Print one line per case, each measured in its own process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(DATA))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--case", nargs=2, metavar=("SIZE", "KEPT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure(arguments.data, int(arguments.case[0]), arguments.case[1] == "kept", arguments.workers)
        return
    for size in ("640", "320"):
        for kept in ("kept", "not-kept"):
            command = [sys.executable, "-m", "benchmarks.loader", "--data", arguments.data, "--workers", str(arguments.workers)]
            subprocess.run([*command, "--case", size, kept], check=True)


def mosaic_loader(data: str | Path, imgsz: int, *, kept: bool, workers: int, cache: str | None = None) -> Loader:
    """Return the loader of train.py; it keeps a small dataset in memory only if `kept`."""
    from unittest.mock import patch

    from utils.config import Hyp
    from utils.data.config import load_data
    from utils.data.loading import image_store as store
    from utils.data.loading.loader import train_loader
    from utils.data.scan import load_index

    index = load_index(load_data(data), "train", cache_dir=cache)
    with patch.object(store, "AUTOMATIC", store.AUTOMATIC if kept else 0):
        return train_loader(index, imgsz=imgsz, batch_size=16, hyp=Hyp(), seed=0, workers=workers)


def measure(data: str, imgsz: int, kept: bool, workers: int) -> None:
    """Load some epochs and print the measurements."""
    loader = mosaic_loader(data, imgsz, kept=kept, workers=workers)
    wall, cpu, peak = [], [], 0
    before = cpu_seconds()
    for epoch in range(EPOCHS):
        start, images = time.perf_counter(), 0
        for batch in loader.epoch(epoch):
            images += len(batch.images)
        peak = max(peak, memory())
        now = cpu_seconds()
        wall.append((time.perf_counter() - start) / images * 1e3)
        cpu.append((now - before) / images * 1e3)
        before = now
    loader.close()
    print(
        f"{imgsz} {'kept in memory' if kept else 'not kept':>14}, {workers} workers: {1e3 / statistics.median(wall[1:]):4.0f} img/s;"
        f" CPU ms per image: first epoch {cpu[0]:.2f}, later {statistics.median(cpu[1:]):.2f}, mean of {EPOCHS} {statistics.mean(cpu):.2f};"
        f" peak {peak / 2**30:.2f} GB"
    )


def process_ids() -> list[int]:
    """Return the ids of this process and its children."""
    me = os.getpid()
    return [me, *map(int, Path(f"/proc/{me}/task/{me}/children").read_text().split())]


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children, running and finished."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    total = sum(u.ru_utime + u.ru_stime for u in used)
    for pid in process_ids()[1:]:
        fields = Path(f"/proc/{pid}/schedstat").read_text().split()
        total += int(fields[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir():
            if task.name != str(pid):
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def memory() -> int:
    """Return the resident bytes of this process and its children; shared memory is counted for each."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in process_ids()) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
