"""Progress on terminals of several widths and in a file."""

from __future__ import annotations

import io
import logging
import os
import sys

import pytest

from utils import progress
from utils.evaluation import evaluate


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def become_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> Terminal:
    """Make standard output and error a terminal of `width` columns."""
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda _: os.terminal_size((width, 24)))
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (width, 24))
    return out


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("width", "text"), [(120, True), (80, True), (40, False)])
def test_the_bar_fits_the_terminal_with_percentage_and_time_left(width, text, monkeypatch):
    terminal = become_terminal(monkeypatch, width)
    with progress.Progress("epoch 10/299", 200, done=10) as bar:
        bar.update(100, "box 0.14 obj 0.0216 cls 0.106")
        bar._bar.refresh()
    states = [state for state in terminal.getvalue().split("\r") if state.strip()]
    assert all(len(state) <= width for state in states)
    assert any("50%|" in state and "100/200" in state and "<" in state for state in states)
    assert any("cls" in state for state in states) == text
    assert terminal.getvalue().split("\r")[-1].strip() == "", "nothing stays"


def test_a_file_gets_lines_with_times_ever_more_rarely(capsys, caplog, monkeypatch, clock):
    monkeypatch.setattr(logging.getLogger("attune"), "propagate", True)
    caplog.set_level(logging.INFO, "attune")
    with progress.Progress("epoch 0/1", 200, done=0) as bar:
        for done in range(1, 201):
            clock[0] = float(done)
            bar.update(done, "box 0.1")
    assert [record.message for record in caplog.records] == [
        "epoch 0/1: 5/200, 00:05 passed, 03:15 left, box 0.1",
        "epoch 0/1: 10/200, 00:10 passed, 03:10 left, box 0.1",
        "epoch 0/1: 20/200, 00:20 passed, 03:00 left, box 0.1",
        "epoch 0/1: 40/200, 00:40 passed, 02:40 left, box 0.1",
        "epoch 0/1: 80/200, 01:20 passed, 02:00 left, box 0.1",
        "epoch 0/1: 140/200, 02:20 passed, 01:00 left, box 0.1",
    ]


@pytest.mark.parametrize("width", [120, 88, 80, 60, 40])
def test_the_table_of_metrics_fits_the_terminal(width, caplog, monkeypatch):
    become_terminal(monkeypatch, width)
    monkeypatch.setattr(logging.getLogger("attune"), "propagate", True)
    caplog.set_level(logging.INFO, "attune")
    evaluate._log_cells(*evaluate._HEADER)
    evaluate.log_row("a long name of a class", 5000, 36335, 0.671, 0.519, 0.566, 0.0000371)
    lines = [record.message for record in caplog.records]
    assert max(map(len, lines)) <= width
    assert len({len(line) for line in lines}) == 1, "the columns are aligned"
    assert lines[0].split()[-2:] == ["mAP50", "mAP50-95"]
    assert lines[1].split()[-2:] == ["0.566", "3.71e-05"]
