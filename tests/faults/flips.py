"""Flipped bits and cut ends of last.pt: every one is detected, and the checkpoint before it is used."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.tally import Tally
from tests.faults.training import Training, differences, outcome
from utils.errors import UserError
from utils.log import LOG
from utils.training.checkpoint import LAST, PREVIOUS, load_checkpoint
from utils.training.resume import newest_checkpoint

FLIPS = CUTS = 200
RESUMED = 4
"""Of these runs go on to the end."""


def run(folder: Path, *, short: bool) -> Tally:
    """Damage the checkpoint of a run that was stopped, look what is found, and go on with some of them."""
    tally, draw = Tally("flips"), random.Random(0)
    LOG.disabled = True  # each damaged file is named
    training = Training(folder, "--noplots", "--workers", "0")
    if code := training.finish("run"):
        tally.fault(False, f"the undisturbed run ended with {code}: {training.log('run')}")
        return tally
    run_folder = training.run_folder("run")
    expected = outcome(run_folder)
    path = run_folder / "weights" / LAST
    whole, before = path.read_bytes(), (path.parent / PREVIOUS).read_bytes()
    flips, cuts = (20, 20) if short else (FLIPS, CUTS)
    damaged = [("flip of bit", bit, _flipped(whole, bit)) for bit in draw.sample(range(8 * len(whole)), flips)]
    damaged += [("cut after byte", length, whole[:length]) for length in draw.sample(range(len(whole)), cuts)]
    chosen = set(draw.sample(range(len(damaged)), 1 if short else RESUMED))
    for number, (kind, place, content) in enumerate(damaged):
        path.write_bytes(content)
        wrong = _unnoticed(path) or _not_replaced(run_folder)
        if not wrong and number in chosen:
            (run_folder / "metrics.json").unlink()
            code = training.finish("run")
            wrong = f"resuming ended with {code}: {training.log('run')}" if code else differences(expected, run_folder)
            (path.parent / PREVIOUS).write_bytes(before)
        tally.fault(not wrong, f"{kind} {place}: {wrong}")
    LOG.disabled = False
    return tally


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _unnoticed(path: Path) -> str:
    try:
        load_checkpoint(path)
    except UserError:
        return ""
    return "not noticed"


def _not_replaced(run_folder: Path) -> str:
    newest = newest_checkpoint(run_folder)
    return "" if newest is not None and newest.name == PREVIOUS else f"{newest} was taken"
