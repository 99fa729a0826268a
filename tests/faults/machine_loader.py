"""Loader processes that are killed, crash or hang."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.faults.tally import Tally, bytes_changed, snapshot
from utils.config import Hyp
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.loading.loader import train_loader, val_loader
from utils.data.scan import load_index
from utils.data.shapes import write_dataset

FAULTS = (
    ("SIGKILL", 1, (0,)),
    ("SIGSTOP", 2, (3,)),
    ("SIGKILL", 2, (0, 1, 2, 3)),
    ("SIGSEGV", 1, (5,)),
    ("SIGBUS", 2, (1, 6)),
    ("SIGTERM", 2, (2,)),
    ("SIGKILL", 2, (4, 8)),
    ("SIGSTOP", 1, (0,)),
    ("SIGKILL", 3, (0, 5, 10)),
)
"""What is sent, to one of how many processes, after which batches; then the same to a validation."""
PATIENCE = 5.0


def loader_faults(tally: Tally, folder: Path, *, short: bool) -> None:
    """Compare the batches with those of a loader that was left alone."""
    data = write_dataset(folder / "loader", {"train": 64, "val": 8}, size=96, seed=2)
    before = snapshot(data.parent)
    index = load_index(load_data(data), "train")
    expected = _batches(index, 0, "", ())
    for name, workers, after in FAULTS[:2] if short else FAULTS:
        tally.fault(_batches(index, workers, name, after) == expected, f"{name} to one of {workers} loader processes after batches {after}")
    if not short:
        tally.fault(_batches(index, 2, "SIGKILL", (1,), train=False) == _batches(index, 0, "", (), train=False), "SIGKILL in a validation")
    tally.bytes_changed += bytes_changed(before, data.parent)


def _batches(index: Index, workers: int, name: str, after: tuple[int, ...], *, train: bool = True) -> list[bytes]:
    if train:
        loader = train_loader(index, imgsz=64, batch_size=16, hyp=Hyp(), seed=0, workers=workers)
    else:
        loader = val_loader(index, imgsz=64, batch_size=16, workers=workers)
    if loader._pool:
        loader._pool._patience = PATIENCE
    found: list[bytes] = []
    for epoch in range(3):
        for batch in loader.epoch(epoch):
            if loader._pool and len(found) in after:
                victim = loader._pool.processes[len(found) % len(loader._pool.processes)]
                os.kill(victim.pid or 0, getattr(signal, name)) if victim.is_alive() else None
            found.append(batch.images.numpy().tobytes() + batch.targets.numpy().tobytes())
    loader.close()
    return found
