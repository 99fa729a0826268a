"""How far a study is: a bar for the study and one for each run under way; without a terminal, lines in the log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils.compare.executors import Task
from utils.compare.run_result import read_curve
from utils.compare.study import RunResult, run_folder
from utils.log import LOG

_BARS = 8  # more would fill the screen
_PAUSE = 60.0  # seconds between two lines about the runs under way


class Progress:
    """Shows how a study gets on.

    Args:
        total: runs of the study.
        done: of them, those that are finished already.
        epochs: of a run.
    """

    def __init__(self, total: int, done: int, epochs: int) -> None:
        self._epochs, self._total, self._done = epochs, total, done
        self._study = tqdm(total=total, initial=done, desc="study", unit="run", position=0, disable=None)
        self._bars: dict[Task, Any] = {}
        self._under_way: list[Task] = []
        self._said = time.monotonic()

    def begin(self, task: Task) -> None:
        """A run was handed over."""
        self._under_way.append(task)
        if self._study.disable:
            LOG.info("%s: begins (%s)", task, task.log)

    def look(self) -> None:
        """Read from the runs' folders how far they are."""
        for task in self._under_way:
            epochs = len(read_curve(folder_of(task)))
            if task not in self._bars and epochs and len(self._bars) < _BARS:
                place = next(i for i in range(1, _BARS + 1) if all(bar.pos != -i for bar in self._bars.values()))
                self._bars[task] = tqdm(total=self._epochs, desc=str(task), unit="epoch", position=place, leave=False, disable=None)
            if task in self._bars:
                self._bars[task].update(epochs - self._bars[task].n)
        if self._study.disable and time.monotonic() - self._said > _PAUSE:
            self._said = time.monotonic()
            states = [f"{task}: {epochs}/{self._epochs}" for task in self._under_way if (epochs := len(read_curve(folder_of(task))))]
            LOG.info("%d of %d runs; epochs of %s", self._done, self._total, "; ".join(states) or "none yet")

    def again(self, task: Task, why: str) -> None:
        """A run was interrupted and will go on."""
        self._drop(task)
        self._say(f"{task}: {why}; it goes on from its last checkpoint")

    def give_up(self, task: Task, why: str) -> None:
        """A run stays unfinished."""
        self._drop(task)
        self._say(f"{task}: not finished: {why}")

    def finish(self, task: Task, result: RunResult) -> None:
        """A run is done, or has failed for good."""
        self._drop(task)
        self._done += 1
        self._study.update()
        outcome = f"AP {100 * result.last.ap:.2f}" if result.last else f"failed: {result.error}"
        self._say(f"{task}: {outcome} ({self._done} of {self._total})")

    def close(self) -> None:
        """Leave the screen tidy."""
        for bar in (*self._bars.values(), self._study):
            bar.close()

    def _drop(self, task: Task) -> None:
        self._under_way.remove(task)
        if bar := self._bars.pop(task, None):
            bar.close()

    def _say(self, text: str) -> None:
        """A line above the bars."""
        with tqdm.external_write_mode():
            LOG.info(text)


def folder_of(task: Task) -> Path:
    """The run folder of a task."""
    return run_folder(task.study, task.variant, task.seed)
