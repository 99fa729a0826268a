"""Real processes for the runs of a study without the seconds that a new interpreter needs to import torch: forks of the test's."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.utils.tensorboard.writer  # noqa: F401  what every run imports, a fork finds here already
import yaml

import utils.compare.evaluate_run
import utils.compare.statistics
import utils.training.session  # noqa: F401
from tests.tiny_model import TINY
from utils.compare import main as study_main
from utils.compare.config import CompareConfig
from utils.compare.executors import Exit, Task
from utils.compare.run_worker import main as work
from utils.config import load_hyp
from utils.errors import StopError, UserError

FAILING_BLOCKS = str(Path(__file__).with_name("failing_blocks.py"))
"""A plug-in. One file for all tests, as a name can be registered once in a process."""
FAST: dict[str, Any] = {"imgsz": 64, "batch_size": 4, "epochs": 2, "workers": 0, "device": "cpu", "noplots": True, "seeds": (2,)}


def write_models(folder: Path) -> list[str]:
    """A tiny model and a variant of it; their paths."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return [str(folder / "tiny.yaml"), write_variant(folder, "tiny-se", "tiny.yaml", "SE")]


def write_variant(folder: Path, name: str, base: str, block: str) -> str:
    """A variant of `base` with one more block; its path."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"base": base, "edits": [{"after": 2, "insert": [1, block, []]}]}))
    return str(path)


def settings(cfgs: Sequence[str], data: Path, project: Path, **more: Any) -> CompareConfig:
    """The flags of a quick study."""
    return CompareConfig(**{**FAST, "cfgs": tuple(cfgs), "data": str(data), "project": str(project), "resamples": 100, "jobs": 2, **more})


def study_of(config: CompareConfig, **hyp: float) -> None:
    """What compare.py does once its command line is read."""
    study_main.run_study(config, load_hyp(config.hyp, hyp), frozenset({"workers"}), "python compare.py ...")


def forked(work: Callable[[], object]) -> int:
    """Do something in a fork; its process number."""
    child = os.fork()
    if child:
        return child
    code = 1
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(name, signal.SIG_DFL)
    try:
        work()
        code = 0
    except UserError as error:
        os.write(2, f"error: {error}\n".encode())
        code = 2
    except StopError:
        code = 75
    except SystemExit as status:
        code = int(status.code or 0)
    except BaseException:  # noqa: BLE001  a fork must never return into the test
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def ended(child: int) -> int | None:
    """The exit status of a fork, negative for a signal; None while it runs."""
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


class ForkExecutor:
    """`LocalExecutor` with forks for processes; `kills` says after how many seconds which of them is killed, in order."""

    kills: Sequence[float] = ()

    def __init__(self, jobs: int, flags: dict[str, Any], devices: Sequence[str]) -> None:
        self.slots, self.started = jobs, 0
        self._flags, self._running = [*devices], dict[Task, tuple[int, float]]()

    def start(self, task: Task) -> None:
        def run() -> None:
            task.log.parent.mkdir(parents=True, exist_ok=True)
            log = os.open(task.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            work([str(task.study), task.variant, str(task.seed), "--device", "cpu", "--workers", "0", "--noplots"])

        life = self.kills[self.started] if self.started < len(self.kills) else float("inf")
        self.started += 1
        self._running[task] = forked(run), time.monotonic() + life

    def wait(self, seconds: float) -> list[Exit]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for task, (child, life) in self._running.items():
                if time.monotonic() > life:
                    os.kill(child, signal.SIGKILL)
                if (code := ended(child)) is not None:
                    del self._running[task]
                    return [Exit(task, code)]
            time.sleep(0.005)
        return []

    def stop(self) -> None:
        for child, _ in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
        self._running.clear()
