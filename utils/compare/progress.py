"""Progress of a study: a bar for the study and one for each active run; without a terminal, lines in the log."""

from __future__ import annotations

import time
from typing import Any

from tqdm import tqdm

from utils.compare.executors import Task
from utils.compare.study import RunResult
from utils.log import LOG
from utils.progress import BAR, duration
from utils.training.history import read_curve

_MAX_BARS = 8
_LOG_INTERVAL = 60.0  # seconds between two log lines about the active runs


class Progress:
    """Shows the progress of a study.

    Args:
        total: runs of the study.
        done: those already finished.
        epochs: per run.
    """

    def __init__(self, total: int, done: int, epochs: int) -> None:
        self._epochs, self._total, self._done, self._before = epochs, total, done, done
        self._study = tqdm(total=total, initial=done, desc="study", position=0, bar_format=BAR, dynamic_ncols=True, disable=None)
        self._bars: dict[Task, Any] = {}
        self._active: list[Task] = []
        self._start = self._logged = time.monotonic()

    def begin(self, task: Task) -> None:
        """A run was started."""
        self._active.append(task)
        if self._study.disable:
            LOG.info("%s: started (%s)", task, task.log)

    def update(self) -> None:
        """Read the active runs' progress from their folders."""
        for task in self._active:
            epochs = len(read_curve(task.folder))
            if task not in self._bars and epochs and len(self._bars) < _MAX_BARS:
                place = next(i for i in range(1, _MAX_BARS + 1) if all(bar.pos != -i for bar in self._bars.values()))
                options: dict[str, Any] = {"bar_format": BAR, "dynamic_ncols": True, "leave": False, "disable": None}
                self._bars[task] = tqdm(total=self._epochs, initial=epochs, desc=str(task), position=place, **options)
            if task in self._bars:
                self._bars[task].update(epochs - self._bars[task].n)
        if self._study.disable and time.monotonic() - self._logged > _LOG_INTERVAL:
            self._logged = time.monotonic()
            states = [f"{task}: {epochs}/{self._epochs}" for task in self._active if (epochs := len(read_curve(task.folder)))]
            epochs_done = f"epochs of {'; '.join(states)}" if states else "no epoch is done yet"
            LOG.info("%d of %d runs, %s; %s", self._done, self._total, self._times(), epochs_done)

    def restart(self, task: Task, why: str) -> None:
        """A run was interrupted and will be resumed."""
        self._remove(task)
        self._log(f"{task}: {why}; resuming from its last checkpoint")

    def give_up(self, task: Task, why: str) -> None:
        """A run remains unfinished."""
        self._remove(task)
        self._log(f"{task}: not finished: {why}")

    def skip(self, task: Task, why: str) -> None:
        """A run is not carried out, since its arm has ended."""
        self._end(task, why)

    def finish(self, task: Task, result: RunResult) -> None:
        """A run is done or has failed."""
        self._end(task, f"AP {100 * result.last.ap:.2f} points" if result.last else f"failed: {result.error}")

    def _end(self, task: Task, shown: str) -> None:
        self._remove(task)
        self._done += 1
        self._study.update()
        times = f", {self._times()}" if self._study.disable else ""
        self._log(f"{task}: {shown} ({self._done} of {self._total}{times})")

    def _times(self) -> str:
        """The time that has passed, and, once a run has been finished, that left."""
        passed, finished = time.monotonic() - self._start, self._done - self._before
        left = f", {duration(passed / finished * (self._total - self._done))} left" if finished else ""
        return f"{duration(passed)} passed{left}"

    def close(self) -> None:
        """Close the bars."""
        for bar in (*self._bars.values(), self._study):
            bar.close()

    def _remove(self, task: Task) -> None:
        self._active.remove(task)
        if bar := self._bars.pop(task, None):
            bar.close()

    def _log(self, text: str) -> None:
        """Print a line above the bars."""
        with tqdm.external_write_mode():
            LOG.info(text)
