"""SIGKILL at random instants of a training, which is then resumed: the result is unchanged."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from tests.faults.tally import Tally, bytes_changed, snapshot
from tests.faults.training import Training, differences, outcome, position, wait

RUNS = 50
AGAIN = 0.4
"""Probability that a run that goes on is killed once more."""


def run(folder: Path, *, short: bool) -> Tally:
    """Kill runs with 0, 1 and 2 loader processes, some several times; compare with one that was left alone."""
    tally, draw = Tally("kill"), random.Random(0)
    training = Training(folder, "--noplots", *(("--epochs", "2") if short else ()))
    before = snapshot(training.data.parent)
    began = time.monotonic()
    code = training.finish("straight", "--workers", "0")
    seconds = time.monotonic() - began
    if code:
        tally.fault(False, f"the undisturbed run ended with {code}: {training.log('straight')}")
        return tally
    expected = outcome(training.run_folder("straight"))
    for number in range(2 if short else RUNS):
        what = _killed(training, f"run{number}", draw, seconds, number % 3, tally)
        what = what or differences(expected, training.run_folder(f"run{number}"))
        tally.fault(not what, f"run {number}: {what}")
    tally.bytes_changed += bytes_changed(before, training.data.parent)
    return tally


def _killed(training: Training, name: str, draw: random.Random, seconds: float, workers: int, tally: Tally) -> str:
    """Start a run, kill it, go on with it until it comes to its end; what went wrong in words, if anything."""
    kills, folder = 0, training.run_folder(name)
    while True:
        training.progress.clear()
        pid = training.start(name, "--workers", str(workers))
        if not kills or draw.random() < AGAIN:
            time.sleep(draw.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
        code = wait(pid)
        if code == 0 and not kills:
            shutil.rmtree(folder)  # it came to its end first, and is no fault
        elif code != -signal.SIGKILL:
            return "" if code == 0 else f"ended with {code} after {kills} kills: {training.log(name)}"
        else:
            kills += 1
            saved, done = position(folder), training.progress.read()
            tally.checkpoints_lost += done != (-1, -1) and saved == (-1, -1)
            tally.steps_lost += saved < done
            if (folder / "metrics.json").exists():
                return ""  # killed on its way out, with nothing left to do
