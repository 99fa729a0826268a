"""SIGTERM, SIGINT and SIGUSR1 in every part of a training: it saves, exits with 75, and is resumed with the same result."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.tally import Tally, bytes_changed, snapshot
from tests.faults.training import Training, differences, outcome, position
from utils.data.loading.loader import Loader
from utils.evaluation.metrics import Evaluator
from utils.training import checkpoint, engine, session, trainer
from utils.training.losses.loss import DetectionLoss

PLACES: dict[str, tuple[Any, str, int]] = {
    "load": (session, "open_splits", 1),
    "fetch": (Loader, "_batches", 3),
    "forward": (engine, "prepare", 8),
    "val": (Evaluator, "add", 6),
    "save": (checkpoint, "write_checksum", 4),
    "plot": (trainer, "draw_train_batch", 2),
}
"""Where a signal strikes: when a function is entered for the n-th time."""
BACKWARD = 9
"""Batch in whose backward pass a signal strikes."""
SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGINT twice")


def run(folder: Path, *, short: bool) -> Tally:
    """Send every signal in every place, Ctrl-C twice too; each time the run goes on and is compared with one left alone."""
    tally = Tally("signals")
    training = Training(folder, "--workers", "0", "--save-interval", "60")  # what a signal does not save is lost
    before = snapshot(training.data.parent)
    if code := training.finish("straight", "--noplots"):
        tally.fault(False, f"the undisturbed run ended with {code}: {training.log('straight')}")
        return tally
    expected = outcome(training.run_folder("straight"))
    cases = list(itertools.product([*PLACES, "backward"], SIGNALS))
    for place, name in [cases[13], cases[18], cases[-1]] if short else cases:
        run_name = f"{place}-{name.replace(' ', '-')}"
        what = _stopped(training, run_name, place, name, tally)
        if not what:
            code = training.finish(run_name, "--noplots")
            what = f"then ended with {code}: {training.log(run_name)}" if code else differences(expected, training.run_folder(run_name))
        tally.fault(not what, f"{name} in {place}: {what}")
    tally.bytes_changed += bytes_changed(before, training.data.parent)
    return tally


def _stopped(training: Training, run_name: str, place: str, name: str, tally: Tally) -> str:
    """Start a run and send it a signal; what went wrong in words, if anything."""
    training.progress.clear()
    twice = name.endswith("twice")
    number = getattr(signal, name.split()[0])

    def strike() -> None:
        training.progress.strike()
        os.kill(os.getpid(), number)
        if twice:
            os.kill(os.getpid(), number)

    flags = () if place == "plot" else ("--noplots",)
    code = training.finish(run_name, *flags, prepare=lambda: _prepare(place, strike))
    if code != (130 if twice else 75):
        return f"ended with {code}: {training.log(run_name)}"
    if twice:
        return f"went on for {training.progress.late()} steps" if training.progress.late() else ""
    tally.checkpoints_lost += position(training.run_folder(run_name)) == (-1, -1)
    tally.steps_lost += position(training.run_folder(run_name)) < training.progress.read()
    return f"saved {training.progress.late()} steps later" if training.progress.late() > 1 else ""


def _prepare(place: str, strike: Callable[[], None]) -> None:
    if place == "backward":
        _strike_in_backward(strike)
    else:
        _strike_at(*PLACES[place], strike)


def _strike_at(owner: Any, name: str, count: int, strike: Callable[[], None]) -> None:
    """Strike when a function is called for the `count`-th time."""
    function, calls = getattr(owner, name), itertools.count(1)

    def struck(*args: Any, **settings: Any) -> Any:
        if next(calls) == count:
            strike()
        return function(*args, **settings)

    setattr(owner, name, struck)


def _strike_in_backward(strike: Callable[[], None]) -> None:
    call, calls = DetectionLoss.__call__, itertools.count(1)

    def hooked(loss: DetectionLoss, *args: Any) -> Any:
        total, terms = call(loss, *args)
        if total.requires_grad and next(calls) == BACKWARD:
            total.register_hook(lambda _: strike())
        return total, terms

    DetectionLoss.__call__ = hooked  # type: ignore[method-assign]
