"""Two processes that train one model: a signal to one stops both, and they go on to the bit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from pathlib import Path

import pytest

import train
from tests.faults.training import Training, differences, outcome, position
from utils.cli import run
from utils.training import engine


@pytest.fixture
def training(tmp_path, monkeypatch) -> Training:
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path / "cache"))
    return Training(tmp_path, "--noplots", "--workers", "0", "--save-interval", "60")


def train_rank(argv: list[str], log: Path, place: dict[str, str], struck: bool) -> None:
    """Train as one of several processes; where it is to be `struck`, it gets a signal in its eighth batch."""
    os.environ |= place
    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(to, 1)
    os.dup2(to, 2)
    prepare, batches = engine.prepare, []

    def counted(*args, **settings):
        batches.append(1)
        if len(batches) == 8:
            os.kill(os.getpid(), signal.SIGUSR1)
        return prepare(*args, **settings)

    if struck:
        engine.prepare = counted
    run(lambda: train.main(argv))


def start(training: Training, name: str, argv: list[str], struck: int = -1, ranks: int = 2) -> list[int]:
    """Run `argv` in fresh processes and return their exit codes.

    Forked ones could not go backward once another test has started autograd's threads.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = []
    for rank in range(ranks):
        own = {**place, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)} if ranks > 1 else {}
        args = (argv, training.folder / f"{name}{rank}.log", own, rank == struck)
        processes.append(multiprocessing.get_context("spawn").Process(target=train_rank, args=args))
        processes[-1].start()
    for process in processes:
        process.join()
    return [process.exitcode or 0 for process in processes]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both(training: Training) -> None:
    assert start(training, "straight", training.command("straight")) == [0, 0], training.log("straight0")
    expected = outcome(training.run_folder("straight"))
    for struck in (0, 1):
        name = f"struck{struck}"
        folder: Path = training.run_folder(name)
        assert start(training, name, training.command(name), struck) == [75, 75], training.log(f"{name}0")
        assert position(folder) == (1, 4)
        assert start(training, name, ["--resume", str(folder)]) == [0, 0], training.log(f"{name}0")
        assert differences(expected, folder) == ""


@pytest.mark.slow
def test_one_process_goes_on_with_a_run_of_two(training: Training) -> None:
    assert start(training, "run", training.command("run"), 1) == [75, 75], training.log("run0")
    folder = training.run_folder("run")
    assert start(training, "run", ["--resume", str(folder)], ranks=1) == [0], training.log("run0")
    assert len((folder / "results.csv").read_text().splitlines()) == 5
