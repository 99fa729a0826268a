"""Errors a user can cause, the wish to stop, and the nearest-name hint they end with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave is wrong. The message says what, where, and what to do; scripts print it without a traceback."""


class StorageError(UserError):
    """A file cannot be written: the disk is full, broken or read-only. What was there before still is."""


class StopError(Exception):
    """A signal has asked to stop, and everything is saved to go on from here; scripts end with 75. The message says how."""


_LONGEST_NAME = 100  # the comparison takes the square of it


def nearest(name: object, known: Iterable[object]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to `name`, or ``""`` when none is close."""
    if len(str(name)) > _LONGEST_NAME:
        return ""
    spelling = {str(k).lower(): str(k) for k in known}
    close = difflib.get_close_matches(str(name).lower(), spelling, n=1, cutoff=0.6)
    return f"; did you mean '{spelling[close[0]]}'?" if close else ""
