"""Progress of a loop: a bar on a terminal, lines with times in a file."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from utils.log import LOG

FULL_WIDTH = 88
"""Columns of the widest table, assumed where the output is no terminal."""
BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining}{postfix}"
_POSTFIX_WIDTH = 76
_FIRST_LINE, _LINE_INTERVAL = 5.0, 60.0


def terminal_width() -> int:
    """Columns of the terminal on standard output; `FULL_WIDTH` where it is none."""
    return shutil.get_terminal_size((FULL_WIDTH, 24)).columns if sys.stdout.isatty() else FULL_WIDTH


def duration(seconds: float) -> str:
    """A time such as ``1:02:03``, or ``2:03`` below an hour."""
    return tqdm.format_interval(seconds)


class Progress:
    """A loop's progress, with the time that is left. It leaves nothing behind on a terminal.

    In a file there is a line after 5 seconds, then each time after twice as long, and every minute at last.

    Args:
        name: stands before it.
        total: steps of the loop.
        done: steps before the first one.
        shown: false in all ranks but the first.
    """

    def __init__(self, name: str, total: int, *, done: int = 0, shown: bool = True) -> None:
        self._bar = tqdm(
            total=total, initial=done, desc=name, leave=False, dynamic_ncols=True, bar_format=BAR, disable=None if shown else True
        )
        self._name, self._total, self._done, self._before = name, total, done, done
        self._lines = shown and not sys.stdout.isatty()
        self._start, self._due = time.monotonic(), _FIRST_LINE

    @property
    def seconds(self) -> float:
        """Since the start of the loop."""
        return time.monotonic() - self._start

    def update(self, done: int, text: str = "") -> None:
        """Note that `done` steps are done; `text` says more where there is room."""
        self._done = done
        if text and terminal_width() >= _POSTFIX_WIDTH:
            self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)
        passed = self.seconds
        if self._lines and passed >= self._due and done < self._total:
            left = passed / max(done - self._before, 1) * (self._total - done)
            times = f"{duration(passed)} passed, {duration(left)} left"
            LOG.info("%s: %d/%d, %s", self._name, done, self._total, f"{times}, {text}" if text else times)
            self._due = min(2 * passed, passed + _LINE_INTERVAL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove the bar."""
        self._bar.close()
