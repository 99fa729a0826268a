"""Loader processes that die or hang."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from utils.config import Hyp
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.loading import workers as module
from utils.data.loading.dataset import LoadedBatch
from utils.data.loading.loader import train_loader
from utils.data.loading.sampler import BatchPlan, Sample
from utils.data.loading.workers import WorkerPool
from utils.data.scan import load_index
from utils.errors import UserError


class Marks:
    """BatchDataset whose images hold the number of the plan; some numbers do something to the process that loads them, once or always."""

    def __init__(self, folder: Path, always: bool = False, **odd: int) -> None:
        self.folder, self.always, self.odd = folder, always, odd

    def path(self, i: int) -> Path:
        return Path(f"{i}.jpg")

    def __getitem__(self, plan: BatchPlan) -> LoadedBatch:
        number = plan.samples[0].index
        mark = self.folder / str(number)
        if self.always or not mark.exists():
            mark.touch()
            for what, at in self.odd.items():
                if at == number:
                    faulthandler.disable()  # pytest's would print where the process was
                    os.kill(os.getpid(), getattr(signal, what))
        return LoadedBatch(np.full((1, 3, 1, 1), number, np.uint8), np.full((1, 6), number, np.float32), ())


def plans(count: int) -> Iterator[BatchPlan]:
    return (BatchPlan(0, (1, 1), (Sample(i),), (1,)) for i in range(count))


def run(pool: WorkerPool, count: int) -> list[int]:
    found, source = [], plans(count)
    for plan in source:
        pool.give(plan)
        if not pool.room:
            found.append(int(pool.take().targets[0, 0]))
    while pool.waiting:
        found.append(int(pool.take().targets[0, 0]))
    return found


@pytest.mark.parametrize("size", [1, 3])
def test_answers_come_in_order(tmp_path, size):
    pool = WorkerPool(Marks(tmp_path), size)
    assert run(pool, 20) == list(range(20))
    assert pool.replaced == 0
    processes = pool.processes
    assert len(processes) == size
    pool.close()
    assert not any(process.is_alive() for process in processes if process._popen)


@pytest.mark.parametrize(("size", "odd"), [(1, {"SIGKILL": 0}), (2, {"SIGKILL": 7, "SIGSEGV": 8}), (2, {"SIGTERM": 3, "SIGBUS": 19})])
def test_a_process_that_dies_is_replaced_at_once(tmp_path, caplog, size, odd):
    pool = WorkerPool(Marks(tmp_path, **odd), size)
    assert run(pool, 20) == list(range(20))
    assert "has not answered" not in caplog.text, "its end was noticed, not waited for"
    assert pool.replaced == len(odd)
    assert next(iter(odd)) in caplog.text
    pool.close()


def test_a_process_that_hangs_is_replaced(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "_TICK", 0.1)
    pool = WorkerPool(Marks(tmp_path, SIGSTOP=4), 2, patience=0.5)
    assert run(pool, 10) == list(range(10))
    assert pool.replaced == 1
    assert "has not answered for" in caplog.text
    pool.close()


def test_processes_killed_while_nobody_listens(tmp_path):
    pool = WorkerPool(Marks(tmp_path), 3)
    for plan in plans(6):
        pool.give(plan)
    for process in pool.processes:
        process.kill()
    assert [int(pool.take().targets[0, 0]) for _ in range(6)] == list(range(6))
    pool.close()


def test_work_that_kills_everyone_is_named(tmp_path):
    pool = WorkerPool(Marks(tmp_path, always=True, SIGKILL=2), 2)
    with pytest.raises(
        UserError, match=r"a loader process ended \(SIGKILL.*, the 4th with the same images: 2\.jpg\. .*--workers .*--shm-size"
    ):
        run(pool, 6)
    pool.close()


@pytest.fixture(scope="module")
def index(tiny_dataset: Path) -> Index:
    return load_index(load_data(tiny_dataset), "train")


def test_batches_are_the_same_whoever_is_killed(index):
    def batches(kill: tuple[int, ...]) -> list[bytes]:
        loader = train_loader(index, imgsz=64, batch_size=2, hyp=Hyp(), seed=0, workers=2)
        found = []
        for epoch in range(3):
            for number, batch in enumerate(loader.epoch(epoch)):
                found.append(batch.images.numpy().tobytes() + batch.targets.numpy().tobytes())
                if 4 * epoch + number in kill:
                    loader._pool.processes[number % 2].kill()
        loader.close()
        return found

    assert batches((0, 3, 6, 7)) == batches(())
