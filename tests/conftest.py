"""Fixtures of every test: seeded random numbers, one thread, a cache of its own, no network; a small drawn dataset."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a CUDA device where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give this process and those it starts a cache folder of the session, one thread, and no window system."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("MPLBACKEND", "Agg")
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell; some tests interrupt themselves
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # a module's fixtures run before a test's own; the last bits of a sum depend on it
        yield


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("localhost", "::1") and not str(address[0]).startswith("127."):
            raise ConnectionRefusedError(f"tests may not use the network: {address!r}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Start each test from the same random state and leave the state as it was; torch only where it is loaded already."""
    torch = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None  # noqa: NPY002  the global state is the point
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if torch:
        torch.set_num_threads(1)
        torch.manual_seed(0)
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])  # noqa: NPY002
    if torch:
        torch.set_rng_state(before[2])


@pytest.fixture(autouse=True)
def unlogged() -> Iterator[None]:
    """Take back what a script's `start_log` set up: its handler writes to the captured output of one test only."""
    yield
    log = logging.getLogger("attune")
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real data (coco128, fruits, yolov5n.pt, ...); skips the test where there is none."""
    folder = Path(os.environ.get("ATTUNE_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; ATTUNE_SHARED names another")
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data.yaml`` of 12 drawn images of 128 x 128 pixels: 8 to train on and 4 to validate. Read only: tests share it."""
    from utils.data.shapes import write_dataset

    return write_dataset(tmp_path_factory.mktemp("shapes"), {"train": 8, "val": 4}, size=128, seed=0)
