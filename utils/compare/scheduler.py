"""Scheduling: every run of a study is carried out once, whatever happens to its processes."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

from utils.compare.executors import Executor, Task
from utils.compare.progress import Progress
from utils.compare.run_result import read_run_result, write_run_result
from utils.compare.stopping import ARM_ENDED, read_runs
from utils.compare.study import RunResult, StudyPlan
from utils.errors import StopError, UserError
from utils.files.safe_open import open_regular
from utils.signals import StopRequest
from utils.training.history import read_curve

_MAX_KILLS = 8
"""How often in a row a run may be killed without progress before it is given up."""
_EXIT_STOPPED = 75
_TAIL = 8192  # bytes at the end of a log that are searched for the last message


def tasks_left(folder: Path, plan: StudyPlan) -> list[Task]:
    """The unfinished runs, seed by seed, so that an interrupted study has pairs to compare."""
    missing = {(run.variant, run.seed) for run in read_runs(folder, plan) if run.state == "missing"}
    return [Task(folder, v.name, seed) for seed in plan.seeds for v in plan.variants if (v.name, seed) in missing]


def fail_unbuildable(folder: Path, plan: StudyPlan) -> None:
    """Save a failed result for the variants that cannot be built.

    Raises:
        UserError: it cannot be written.
    """
    for variant in plan.variants:
        for seed in plan.seeds:
            if variant.error and read_run_result(folder, variant.name, seed).state == "missing":
                _fail(Task(folder, variant.name, seed), variant.error)


def _fail(task: Task, why: str) -> RunResult:
    result = RunResult(variant=task.variant, seed=task.seed, state="failed", folder=task.folder, error=why)
    write_run_result(task.folder, result)
    return result


class Scheduler:
    """Hands tasks to an executor until all are finished.

    Attributes:
        unfinished: by task, why it could not be finished: a full disk, missing data, killed repeatedly.
    """

    def __init__(self, executor: Executor, tasks: list[Task], progress: Progress) -> None:
        self._executor, self._progress = executor, progress
        self._waiting = deque(tasks)
        self._running: set[Task] = set()
        self._kills: dict[Task, tuple[object, int]] = {}  # the last known progress, and how often the run was killed since
        self.unfinished: dict[Task, str] = {}

    def run(self, request: StopRequest) -> None:
        """Carry out all tasks.

        Raises:
            StopError: a signal asked to stop; all runs are saved.
        """
        try:
            while self._waiting or self._running:
                if request.by:
                    raise StopError(f"{request.by}: all runs are saved; repeat the command to continue the study")
                while self._waiting and len(self._running) < self._executor.slots:
                    task = self._waiting.popleft()
                    self._running.add(task)
                    self._progress.begin(task)
                    self._executor.start(task)
                for task, code in self._executor.wait(0.5):
                    self._running.remove(task)
                    self._handle_exit(task, code)
                self._progress.update()
        finally:
            self._executor.stop()
            self._progress.close()

    def _handle_exit(self, task: Task, code: int) -> None:
        result = read_run_result(task.study, task.variant, task.seed)
        if result.state != "missing":
            self._progress.finish(task, result)
        elif code == ARM_ENDED:
            self._progress.skip(task, _last_message(task.log))
        elif code == 2:
            self._give_up(task, _last_message(task.log))
        elif code == 1:
            try:  # a run that ended with a traceback would do so again: the variant has failed
                self._progress.finish(task, _fail(task, _last_message(task.log)))
            except UserError as error:
                self._give_up(task, str(error))
        else:
            self._restart(task, code)

    def _restart(self, task: Task, code: int) -> None:
        """Continue a killed run, unless it is killed each time before it makes progress."""
        last = task.folder / "weights" / "last.pt"
        progress = len(read_curve(task.folder)), last.stat().st_mtime_ns if last.is_file() else 0
        before, count = self._kills.get(task, (None, 0))
        count = count + 1 if progress == before else 1
        self._kills[task] = progress, count
        how = f"signal {-code}" if code < 0 else f"status {code}"
        if count >= _MAX_KILLS:
            self._give_up(task, f"ended with {how} {count} times without progress (out of memory?); see {task.log}")
            return
        self._progress.restart(task, "stopped" if code == _EXIT_STOPPED else f"its process ended with {how}")
        self._waiting.appendleft(task)

    def _give_up(self, task: Task, why: str) -> None:
        self.unfinished[task] = why
        self._progress.give_up(task, why)


def _last_message(log: Path) -> str:
    """The last line of a log, which says why the process ended."""
    try:
        with open_regular(log) as file:
            file.seek(max(file.seek(0, 2) - _TAIL, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return f"see {log}"
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines[-1].removeprefix("error: ")[:1000] if lines else f"see {log}"
