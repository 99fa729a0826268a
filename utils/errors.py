"""Errors a user can cause, the request to stop, and the nearest-name hint of messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Invalid input. The message says what, where, and what to do; scripts print it without a traceback."""


class StorageError(UserError):
    """A file cannot be written: the disk is full, broken or read-only. The previous content is kept."""


class StopError(Exception):
    """A signal asked to stop, and everything is saved for resuming; scripts exit with 75. The message says how to resume."""


_MAX_LENGTH = 100  # the comparison takes quadratic time


def nearest(name: object, known: Iterable[object]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to `name`, or ``""`` when none is close."""
    if len(str(name)) > _MAX_LENGTH:
        return ""
    spelling = {str(k).lower(): str(k) for k in known}
    close = difflib.get_close_matches(str(name).lower(), spelling, n=1, cutoff=0.6)
    return f"; did you mean '{spelling[close[0]]}'?" if close else ""
