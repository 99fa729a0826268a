"""Two processes that train one model: a signal to one stops both, and they go on to the bit."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

import train
from tests.faults.training import Training, differences, outcome, position, wait
from utils import engine


@pytest.fixture
def training(tmp_path, monkeypatch) -> Training:
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path / "cache"))
    return Training(tmp_path, "--noplots", "--workers", "0", "--save-interval", "60")


def start_both(training: Training, name: str, argv: list[str], struck: int = -1) -> list[int]:
    """Run `argv` in two processes, of which number `struck` gets a signal in its eighth batch; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def prepare(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        prepare_batch, batches = engine.prepare, []

        def counted(*args, **settings):
            batches.append(rank)
            if len(batches) == 8 and rank == struck:
                os.kill(os.getpid(), signal.SIGUSR1)
            return prepare_batch(*args, **settings)

        engine.prepare = counted

    pids = [training.fork(lambda: train.main(argv), f"{name}{rank}", lambda rank=rank: prepare(rank)) for rank in (0, 1)]
    return [wait(pid) for pid in pids]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both(training: Training) -> None:
    assert start_both(training, "straight", training.command("straight")) == [0, 0], training.log("straight0")
    expected = outcome(training.run_folder("straight"))
    for struck in (0, 1):
        name = f"struck{struck}"
        folder: Path = training.run_folder(name)
        assert start_both(training, name, training.command(name), struck) == [75, 75], training.log(f"{name}0")
        assert position(folder) == (1, 4)
        assert start_both(training, name, ["--resume", str(folder)]) == [0, 0], training.log(f"{name}0")
        assert differences(expected, folder) == ""


@pytest.mark.slow
def test_one_process_goes_on_with_a_run_of_two(training: Training) -> None:
    assert start_both(training, "run", training.command("run"), 1) == [75, 75]
    assert training.finish("run") == 0
    assert len((training.run_folder("run") / "results.csv").read_text().splitlines()) == 5
