"""Seeing to it that every run of a study is carried out, once, whatever happens to the processes that do it."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from pathlib import Path

from utils.compare.executors import Executor, Exit, Task
from utils.compare.progress import Progress, folder_of
from utils.compare.run_result import read_curve, read_run_result, write_run_result
from utils.compare.study import RunResult, StudyPlan, run_folder
from utils.errors import StopError, UserError
from utils.signals import StopRequest

_IN_VAIN = 8
"""How often in a row a run may be killed without having got any further."""
_STOPPED = 75
_TAIL = 8192


def tasks_left(folder: Path, plan: StudyPlan) -> list[Task]:
    """The runs that are not finished, seed by seed, so that a study that is broken off has pairs to compare."""
    every = [Task(folder, v.name, seed) for seed in plan.seeds for v in plan.variants]
    return [t for t in every if read_run_result(folder, t.variant, t.seed).state == "missing"]


def fail_unbuildable(folder: Path, plan: StudyPlan) -> None:
    """Write down the failure of the variants that cannot be built.

    Raises:
        UserError: it cannot be written.
    """
    for variant in plan.variants:
        for seed in plan.seeds:
            if variant.error and read_run_result(folder, variant.name, seed).state == "missing":
                _fail(Task(folder, variant.name, seed), variant.error)


def _fail(task: Task, why: str) -> RunResult:
    home = run_folder(task.study, task.variant, task.seed)
    result = RunResult(variant=task.variant, seed=task.seed, state="failed", folder=home, error=why)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{home}: cannot be made ({error.strerror or error})") from error
    write_run_result(home, result)
    return result


@dataclasses.dataclass(slots=True)
class _Trouble:
    """How a task fared so far: its last sign of progress, and how often it was killed since."""

    progress: object = None
    kills: int = 0


class Scheduler:
    """Hands tasks to an engine until all are finished.

    Attributes:
        unfinished: why a run could not be finished, by task: a full disk, data that are gone, killed again and again.
    """

    def __init__(self, engine: Executor, tasks: list[Task], progress: Progress) -> None:
        self._engine, self._progress = engine, progress
        self._waiting = deque(tasks)
        self._running: set[Task] = set()
        self._troubles = {task: _Trouble() for task in tasks}
        self.unfinished: dict[Task, str] = {}

    def run(self, request: StopRequest) -> None:
        """Carry out all tasks.

        Raises:
            StopError: `request` was made; all runs have saved.
        """
        try:
            while self._waiting or self._running:
                if request.by:
                    raise StopError(f"{request.by}: all runs are saved; the same command goes on with the study")
                while self._waiting and len(self._running) < self._engine.slots:
                    task = self._waiting.popleft()
                    self._running.add(task)
                    self._progress.begin(task)
                    self._engine.start(task)
                for exited in self._engine.wait(0.5):
                    self._running.remove(exited.task)
                    self._settle(exited)
                self._progress.look()
        finally:
            self._engine.stop()
            self._progress.close()

    def _settle(self, exited: Exit) -> None:
        task = exited.task
        result = read_run_result(task.study, task.variant, task.seed)
        if result.state != "missing":
            self._progress.finish(task, result)
        elif exited.code == 2:
            self._leave(task, _said(task.log))
        elif exited.code == 1:
            self._finish_crashed(task)
        else:
            self._again(exited)

    def _again(self, exited: Exit) -> None:
        """Carry a killed run on, unless it is killed each time before it gets anywhere."""
        task, trouble = exited.task, self._troubles[exited.task]
        progress = _sign_of_life(folder_of(task))
        trouble.kills = trouble.kills + 1 if progress == trouble.progress else 1
        trouble.progress = progress
        how = f"signal {-exited.code}" if exited.code < 0 else f"status {exited.code}"
        if trouble.kills >= _IN_VAIN:
            self._leave(task, f"ended with {how} {trouble.kills} times without getting further (out of memory?); see {task.log}")
            return
        self._progress.again(task, "stopped" if exited.code == _STOPPED else f"its process ended with {how}")
        self._waiting.appendleft(task)

    def _finish_crashed(self, task: Task) -> None:
        """What ends with a traceback would do so again: the variant has failed."""
        try:
            self._progress.finish(task, _fail(task, _said(task.log)))
        except UserError as error:
            self._leave(task, str(error))

    def _leave(self, task: Task, why: str) -> None:
        self.unfinished[task] = why
        self._progress.give_up(task, why)


def _sign_of_life(home: Path) -> tuple[int, int]:
    """What changes when a run gets further."""
    last = home / "weights" / "last.pt"
    return len(read_curve(home)), last.stat().st_mtime_ns if last.is_file() else 0


def _said(log: Path) -> str:
    """The last line of a log, which says why a process ended."""
    try:
        with log.open("rb") as file:
            file.seek(max(file.seek(0, 2) - _TAIL, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return f"see {log}"
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines[-1].removeprefix("error: ")[:1000] if lines else f"see {log}"
