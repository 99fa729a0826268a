"""A small training in a forked process, to be killed, told to stop and resumed; and its results, as digests."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import multiprocessing
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import torch
import yaml

import train
from tests.tiny_model import TINY
from utils.cli import run
from utils.data.shapes import write_dataset
from utils.training.checkpoint import LAST, PREVIOUS, load_checkpoint
from utils.training.checkpointing import CheckpointScheduler
from utils.training.resume import newest_checkpoint

EPOCHS = 4
BATCHES = 5
EACH_STEP = "1e-9"
"""Minutes between two saves that make one after each step."""
PATIENCE = 120.0
"""Seconds after which a process that should have ended hangs."""


class Training:
    """The same training again and again, each time in a folder of its own.

    Processes are forked from this one, which has imported everything and computed nothing: they start at once.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder, self.flags = folder, flags
        cv2.setNumThreads(1)  # OpenCV's threads do not come along into a forked process, which crashes when it looks for them
        self.data = write_dataset(folder / "data", {"train": 4 * BATCHES, "val": 4}, size=96, seed=1)
        self.cfg = folder / "tiny.yaml"
        self.cfg.write_text(yaml.safe_dump(TINY))
        self.progress = Progress()

    def command(self, name: str, *flags: str) -> list[str]:
        """The command line that starts the run `name`."""
        fixed = [
            "--epochs",
            str(EPOCHS),
            "--imgsz",
            "64",
            "--batch-size",
            "4",
            "--device",
            "cpu",
            "--amp",
            "off",
            "--exist-ok",
            "--keep-resume",
        ]
        place = ["--cfg", str(self.cfg), "--data", str(self.data), "--project", str(self.folder / "runs"), "--name", name]
        return [*place, *fixed, "--save-interval", EACH_STEP, *self.flags, *flags]

    def run_folder(self, name: str) -> Path:
        """Where the run `name` writes."""
        return self.folder / "runs" / name

    def start(self, name: str, *flags: str, prepare: Callable[[], None] | None = None) -> int:
        """Start the run `name`, or go on with it where there is something to go on with; return the process's id."""
        there = any((self.run_folder(name) / "weights" / file).exists() for file in (LAST, PREVIOUS))
        argv = ["--resume", str(self.run_folder(name)), *flags] if there else self.command(name, *flags)
        return self.fork(lambda: train.main(argv), name, prepare)

    def fork(self, main: Callable[[], object], name: str, prepare: Callable[[], None] | None = None) -> int:
        """Call `prepare`, then `main` as a script's, in a forked process; what it prints goes to `name`.log."""
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            log = os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started this in the background, where it is ignored
            multiprocessing.set_start_method("fork", force=True)  # a spawned harness hands on "spawn", and each loader would import torch
            self.progress.watch()
            if prepare:
                prepare()
            run(main)
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:  # noqa: BLE001  nothing may climb into the copy of the harness
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def finish(self, name: str, *flags: str, prepare: Callable[[], None] | None = None) -> int:
        """Start or go on, and wait for the end; return the exit code."""
        return wait(self.start(name, *flags, prepare=prepare))

    def log(self, name: str) -> str:
        """The end of what the processes of a run printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-600:]


class Progress:
    """How far the training in a forked process has come, in memory that both processes see."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 32)
        self.clear()

    def clear(self) -> None:
        """Forget it."""
        self._write(-1, -1, 0, 0)

    def read(self) -> tuple[int, int]:
        """Return epoch and batch of the last step that was saved; (-1, -1) before the first."""
        return self._fields()[:2]

    def strike(self) -> None:
        """Note that something strikes now."""
        epoch, batch, steps, _ = self._fields()
        self._write(epoch, batch, steps, steps)

    def late(self) -> int:
        """Return the optimizer's steps since it struck."""
        _, _, steps, struck = self._fields()
        return steps - struck

    def watch(self) -> None:
        """Note every step from now on."""
        after_step = CheckpointScheduler.after_step

        def noted(scheduler: CheckpointScheduler, batch: int, sums: torch.Tensor) -> None:
            epoch, before, steps, struck = self._fields()
            self._write(epoch, before, steps + 1, struck)
            after_step(scheduler, batch, sums)
            self._write(scheduler._epoch, batch, steps + 1, struck)

        CheckpointScheduler.after_step = noted  # type: ignore[method-assign]

    def _fields(self) -> tuple[int, int, int, int]:
        return struct.unpack("4q", self._memory)

    def _write(self, *fields: int) -> None:
        self._memory[:] = struct.pack("4q", *fields)


def wait(pid: int, seconds: float = PATIENCE) -> int:
    """Wait for the end of a process: its exit code, or minus the signal that killed it; -999 if it hung."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -999


def position(folder: Path) -> tuple[int, int]:
    """Epoch and batch at which the newest whole checkpoint of a run goes on; (-1, -1) if there is none."""
    path = newest_checkpoint(folder)
    if path is None:
        return -1, -1
    payload = load_checkpoint(path)
    return payload["epoch"] + 1, payload["resume"]["batch"]


def outcome(folder: Path) -> dict[str, str]:
    """The results of a run: a digest of the weights, the EMA, the optimizer and all else to go on from, the best, and results.csv."""
    last, best = load_checkpoint(folder / "weights" / "last.pt"), load_checkpoint(folder / "weights" / "best.pt")
    last["resume"].pop("versions")  # the source is being worked on while this runs
    parts = {key: last[key] for key in ("model", "ema", "resume", "epoch", "metrics")} | {"best": [best["model"], best["epoch"]]}
    digests = {key: _digest(value) for key, value in parts.items()}
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("results.csv", "metrics.json")}
    return digests | files


def differences(expected: dict[str, str], folder: Path) -> str:
    """The parts in which the results of a run differ, as text; empty if in none."""
    found = outcome(folder)
    return ", ".join(key for key in expected if found[key] != expected[key])


def _digest(value: object) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(value):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(value: object) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.contiguous().numpy().tobytes()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"{key!r}:".encode()
            yield from _pieces(item)
    elif isinstance(value, list | tuple):
        yield str(len(value)).encode()
        for item in value:
            yield from _pieces(item)
    else:
        yield repr(value).encode()
