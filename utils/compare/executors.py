"""Where the runs of a study are carried out: each in a process of its own, on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from utils.config import ROOT
from utils.errors import UserError

_GRACE = 120.0  # seconds to finish the step, save, and leave


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A run to carry out."""

    study: Path
    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """Where its process writes what it says."""
        return self.study / "logs" / f"{self.variant}-seed{self.seed}.log"


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """How the process of a task ended; the run's folder says what came of it.

    Attributes:
        code: exit status, negative for the signal that killed it.
    """

    task: Task
    code: int


class Executor(Protocol):
    """Carries out tasks, some at a time."""

    slots: int
    """How many tasks to hand over at a time."""

    def start(self, task: Task) -> None:
        """Begin with a task."""

    def wait(self, seconds: float) -> list[Exit]:
        """Return the tasks that have ended; at once when there are any, else after `seconds`."""

    def stop(self) -> None:
        """Ask all tasks to save and end, and wait until they have."""


def command(task: Task, flags: Mapping[str, Any], device: str) -> list[str]:
    """The command line of a task's process."""
    line = [sys.executable, "-P", "-m", "utils.compare.run_worker", str(task.study), task.variant, str(task.seed), "--follow"]
    for name, value in {**flags, "device": device}.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            line.append(flag)
        elif value is not False and value != "":  # a 0 says something: no loader processes, no saving within epochs
            line.append(f"{flag}={value}")
    return line


def environment() -> dict[str, str]:
    """The environment of a process that runs a part of Attune from any folder."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def launch(line: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a process that ends when this one does, and that a Ctrl-C of the terminal does not reach."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        list(line), stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment(), start_new_session=True
    )


def end(processes: Sequence[subprocess.Popen[bytes]], grace: float = _GRACE) -> None:
    """Let processes save and end; what does not within `grace` seconds is killed, and loses what it has done since it last saved."""
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
        jobs: how many at a time.
        flags: of train.py, those that say how a run is carried out.
        devices: GPUs to share out, one a process; a single entry is for all.
    """

    def __init__(self, jobs: int, flags: Mapping[str, Any], devices: Sequence[str]) -> None:
        self.slots = jobs
        self._flags = dict(flags)
        self._free = [devices[i % len(devices)] for i in range(jobs)]
        self._running: dict[Task, tuple[subprocess.Popen[bytes], str]] = {}

    def start(self, task: Task) -> None:
        """Begin with a task; there is a free slot.

        Raises:
            UserError: no room for its log, or for another process.
        """
        device = self._free.pop(0)
        try:
            task.log.parent.mkdir(parents=True, exist_ok=True)
            with task.log.open("ab") as log:
                self._running[task] = (launch(command(task, self._flags, device), log), device)
        except OSError as error:
            why = f"its process cannot be started ({error.strerror or error}: {error.filename or task.log})"
            raise UserError(f"{task}: {why}; the same command goes on with the study") from error

    def wait(self, seconds: float) -> list[Exit]:
        """Return the tasks that have ended; at once when there are any, else after `seconds`."""
        until = time.monotonic() + seconds
        while True:
            ended = [Exit(task, code) for task, (process, _) in self._running.items() if (code := process.poll()) is not None]
            if ended or time.monotonic() >= until:
                break
            time.sleep(0.05)
        for exited in ended:
            process, device = self._running.pop(exited.task)
            self._free.append(device)
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
        return ended

    def stop(self) -> None:
        """Ask all tasks to save and end, and wait until they have."""
        end([process for process, _ in self._running.values()])
        self._running.clear()
