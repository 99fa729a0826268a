"""Processor time against a yardstick that runs beside it, so that neither a slow processor nor a busy machine changes the answer."""

from __future__ import annotations

import json
import statistics
import time

_ROUNDS = 3
_YARDS = 1800
_YARDSTICK = 0.1
"""Seconds of processor time that `_yardstick` takes on a quiet AMD EPYC of 2.45 GHz."""


def too_long(seconds: float, allowed: float) -> bool:
    """Whether what has just taken so many `seconds` of processor time would take more than `allowed` on the yardstick's machine."""
    return seconds > allowed and seconds * _YARDSTICK / statistics.median(_yardstick() for _ in range(_ROUNDS)) > allowed


def _yardstick() -> float:
    """Seconds of processor time for a fixed piece of work of the kind that reading a file is."""
    start = time.process_time()
    for number in range(_YARDS):
        json.loads(json.dumps({str(i): [i, i / 7, "x" * (i % 13)] for i in range(number % 50)}))
    return time.process_time() - start
