"""The log of the scripts, and text made safe for a terminal."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable

LOG = logging.getLogger("attune")


class _Escaping(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))


def start_log(*, quiet: bool = False) -> None:
    """Send the log to standard output, once; `quiet` (ranks above 0) keeps warnings only."""
    if not LOG.handlers:
        logging.raiseExceptions = False  # "| head" closes the output: no reason for a traceback at each line
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are not text
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_Escaping("%(message)s"))
        LOG.addHandler(handler)
        LOG.propagate = False
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)


def escaped(text: str, *, keep: str = "\n\t") -> str:
    """Escape what could control a terminal or is no text at all, as names of files and classes are untrusted, except what to `keep`."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def abbreviated(names: Iterable[str]) -> str:
    """The first three names, comma-separated."""
    listed = list(names)
    return ", ".join([*listed[:3], *(["..."] if len(listed) > 3 else [])])


def counted(count: int, noun: str) -> str:
    """A number with its noun: ``1 seed``, ``3 seeds``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def printable(text: str) -> str:
    """Replace what is not printable, so that the name of a class or file cannot control a terminal or break a line."""
    return "".join(c if c.isprintable() else "?" for c in text)
