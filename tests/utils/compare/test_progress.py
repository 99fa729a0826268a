"""A study's progress on a narrow terminal and in a file."""

from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from utils.compare import progress
from utils.compare.executors import Task
from utils.compare.progress import Progress

RESULT: Any = SimpleNamespace(last=SimpleNamespace(ap=0.1234), error="")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_of_a_file_have_times(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO)
    tasks = [Task(tmp_path, "yolov5n-se", seed) for seed in (0, 1)]
    shown = Progress(5, 2, 30)  # two were done before
    for task in tasks:
        shown.begin(task)
    clock[0] = 70.0
    shown.update()
    clock[0] = 100.0
    shown.finish(tasks[0], RESULT)
    clock[0] = 200.0
    shown.update()
    assert [record.getMessage() for record in caplog.records[2:]] == [
        "2 of 5 runs, 01:10 passed; no epoch is done yet",
        "yolov5n-se, seed 0: AP 12.34 points (3 of 5, 01:40 passed, 03:20 left)",
        "3 of 5 runs, 03:20 passed, 06:40 left; no epoch is done yet",
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_the_bars_of_runs_tell_the_share_and_the_time_left(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (width, 24))
    epochs = [15]
    monkeypatch.setattr(progress, "read_curve", lambda _: range(epochs[0]))
    shown, task = Progress(4, 0, 30), Task(tmp_path, "yolov5n-se", 0)
    shown.begin(task)
    shown.update()
    epochs[0] = 30
    shown.update()
    shown.finish(task, RESULT)
    shown.close()
    lines = re.split(r"[\r\n]|\x1b\[A", terminal.getvalue())
    assert max(map(len, lines)) <= width
    assert any(re.fullmatch(r"yolov5n-se, seed 0  50%\|.* 15/30 00:00<\?", line.rstrip()) for line in lines)
    assert any(re.fullmatch(r"study  25%\|.*\| 1/4 \d\d:\d\d<\d\d:\d\d", line.rstrip()) for line in lines)
