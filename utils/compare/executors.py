"""Executors start the runs of a study: each in a separate process, here on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from utils.compare.study import run_folder
from utils.config import ROOT
from utils.errors import UserError
from utils.files.atomic import open_append

_GRACE = 120.0  # seconds a process has to finish its step, save and exit


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A run to carry out."""

    study: Path
    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """The run folder."""
        return run_folder(self.study, self.variant, self.seed)

    @property
    def log(self) -> Path:
        """The log file of its process."""
        return self.study / "logs" / f"{self.variant}-seed{self.seed}.log"


class Exit(NamedTuple):
    """How the process of a task ended: its exit status, or negative, the signal that killed it. The result is in the run folder."""

    task: Task
    code: int


class Executor(Protocol):
    """Carries out tasks, `slots` at a time."""

    slots: int

    def start(self, task: Task) -> None:
        """Start a task."""

    def wait(self, seconds: float) -> list[Exit]:
        """Return the tasks that have ended; waits up to `seconds` if there are none."""

    def stop(self) -> None:
        """Ask all tasks to save and exit, and wait for them."""


def command(task: Task, flags: Mapping[str, Any], device: str) -> list[str]:
    """The command line of a task's process."""
    line = [sys.executable, "-P", "-m", "utils.compare.run_worker", str(task.study), task.variant, str(task.seed), "--follow"]
    for name, value in {**flags, "device": device}.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            line.append(flag)
        elif value is not False and value != "":  # 0 is a value: no dataloader processes, no saving within epochs
            line.append(f"{flag}={value}")
    return line


def environment() -> dict[str, str]:
    """Environment variables of a process that imports Attune from any folder."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def launch(line: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a process that ends when this one does, and is not reached by Ctrl-C in the terminal."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        list(line), stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment(), start_new_session=True
    )


def end(processes: Sequence[subprocess.Popen[bytes]], grace: float = _GRACE) -> None:
    """Ask processes to save and exit; those that do not within `grace` seconds are killed and lose their work since the last checkpoint."""
    for process in processes:
        process.terminate()
    begun = time.monotonic()
    for process in processes:
        try:
            process.wait(max(grace - (time.monotonic() - begun), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class LocalExecutor:
    """Processes on this machine.

    Args:
        jobs: number of processes at a time.
        flags: flags of train.py that do not affect a run's figures.
        devices: devices to distribute, one per process; a single one is shared by all.
    """

    def __init__(self, jobs: int, flags: Mapping[str, Any], devices: Sequence[str]) -> None:
        self.slots = jobs
        self._flags = dict(flags)
        self._free = [devices[i % len(devices)] for i in range(jobs)]
        self._running: dict[Task, tuple[subprocess.Popen[bytes], str]] = {}

    def start(self, task: Task) -> None:
        """Start a task; there must be a free slot.

        Raises:
            UserError: its log or its process cannot be created.
        """
        device = self._free.pop(0)
        try:
            task.log.parent.mkdir(parents=True, exist_ok=True)
            with open_append(task.log) as log:
                self._running[task] = (launch(command(task, self._flags, device), log), device)
        except OSError as error:
            why = f"its process cannot be started ({error.strerror or error}: {error.filename or task.log})"
            raise UserError(f"{task}: {why}; repeat the command to continue the study") from error

    def wait(self, seconds: float) -> list[Exit]:
        """Return the tasks that have ended; waits up to `seconds` if there are none."""
        until = time.monotonic() + seconds
        while True:
            ended = [Exit(task, code) for task, (process, _) in self._running.items() if (code := process.poll()) is not None]
            if ended or time.monotonic() >= until:
                break
            time.sleep(0.05)
        for task, _ in ended:
            process, device = self._running.pop(task)
            self._free.append(device)
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        return ended

    def stop(self) -> None:
        """Ask all tasks to save and exit, and wait for them."""
        end([process for process, _ in self._running.values()])
        self._running.clear()
