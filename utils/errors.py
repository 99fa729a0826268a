"""Errors a user can cause, the request to stop, and the nearest-name hint of messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class UserError(ValueError):
    """Invalid input. The message says what, where, and what to do; scripts print it without a traceback."""


class StorageError(UserError):
    """A file cannot be written: the disk is full, broken or read-only. The previous content is kept."""


class DivergedError(UserError):
    """Training met NaN or Inf again and again: the fault of its settings or data, which repeating it would not mend."""


class StopError(Exception):
    """A signal asked to stop, and everything is saved for resuming; scripts exit with 75. The message says how to resume."""


_MAX_LENGTH = 100  # the comparison takes quadratic time
_CUTOFF = 0.65
_SIZE = re.compile(r"yolov5([nsmlx]6?)(?![a-z])")


def nearest(name: object, known: Iterable[object]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to `name`, or ``""`` when none is close.

    A model of another size is never meant.
    """
    if len(str(name)) > _MAX_LENGTH:
        return ""
    wanted = str(name).lower()
    spelling = {str(k).lower(): str(k) for k in known}
    if size := _SIZE.match(wanted):
        spelling = {k: v for k, v in spelling.items() if not (other := _SIZE.match(k)) or other[1] == size[1]}
    close = difflib.get_close_matches(wanted, spelling, n=1, cutoff=_CUTOFF)
    return f"; did you mean '{spelling[close[0]]}'?" if close else ""
