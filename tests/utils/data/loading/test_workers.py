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
from utils.data.index import Index, load_index
from utils.data.loading import workers as module
from utils.data.loading.dataset import Part
from utils.data.loading.loader import train_loader
from utils.data.loading.sampler import Sample, Work
from utils.data.loading.workers import Crew
from utils.errors import UserError


class Marks:
    """Parts whose images hold the number of the work; some numbers do something to the process that loads them, once or always."""

    def __init__(self, folder: Path, always: bool = False, **odd: int) -> None:
        self.folder, self.always, self.odd = folder, always, odd

    def path(self, i: int) -> Path:
        return Path(f"{i}.jpg")

    def __getitem__(self, work: Work) -> Part:
        number = work.samples[0].index
        mark = self.folder / str(number)
        if self.always or not mark.exists():
            mark.touch()
            for what, at in self.odd.items():
                if at == number:
                    faulthandler.disable()  # pytest's would print where the process was
                    os.kill(os.getpid(), getattr(signal, what))
        return Part(np.full((1, 3, 1, 1), number, np.uint8), np.full((1, 6), number, np.float32), ())


def works(count: int) -> Iterator[Work]:
    return (Work(0, (1, 1), (Sample(i),), (1,)) for i in range(count))


def run(crew: Crew, count: int) -> list[int]:
    found, source = [], works(count)
    for work in source:
        crew.give(work)
        if not crew.room:
            found.append(int(crew.take().labels[0, 0]))
    while crew.waiting:
        found.append(int(crew.take().labels[0, 0]))
    return found


@pytest.mark.parametrize("size", [1, 3])
def test_answers_come_in_order(tmp_path, size):
    crew = Crew(Marks(tmp_path), size)
    assert run(crew, 20) == list(range(20))
    assert crew.replaced == 0
    processes = crew.processes
    assert len(processes) == size
    crew.close()
    assert not any(process.is_alive() for process in processes if process._popen)


@pytest.mark.parametrize(("size", "odd"), [(1, {"SIGKILL": 0}), (2, {"SIGKILL": 7, "SIGSEGV": 8}), (2, {"SIGTERM": 3, "SIGBUS": 19})])
def test_a_process_that_dies_is_replaced_at_once(tmp_path, caplog, size, odd):
    crew = Crew(Marks(tmp_path, **odd), size)
    assert run(crew, 20) == list(range(20))
    assert "has not answered" not in caplog.text, "its end was noticed, not waited for"
    assert crew.replaced == len(odd)
    assert next(iter(odd)) in caplog.text
    crew.close()


def test_a_process_that_hangs_is_replaced(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "_TICK", 0.1)
    crew = Crew(Marks(tmp_path, SIGSTOP=4), 2, patience=0.5)
    assert run(crew, 10) == list(range(10))
    assert crew.replaced == 1
    assert "has not answered for" in caplog.text
    crew.close()


def test_processes_killed_while_nobody_listens(tmp_path):
    crew = Crew(Marks(tmp_path), 3)
    for work in works(6):
        crew.give(work)
    for process in crew.processes:
        process.kill()
    assert [int(crew.take().labels[0, 0]) for _ in range(6)] == list(range(6))
    crew.close()


def test_work_that_kills_everyone_is_named(tmp_path):
    crew = Crew(Marks(tmp_path, always=True, SIGKILL=2), 2)
    with pytest.raises(
        UserError, match=r"a loader process ended \(SIGKILL.*, the 4th with the same images: 2\.jpg\. .*--workers .*--shm-size"
    ):
        run(crew, 6)
    crew.close()


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
                    loader._crew.processes[number % 2].kill()
        loader.close()
        return found

    assert batches((0, 3, 6, 7)) == batches(())
