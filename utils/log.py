"""The log of the scripts, and text made safe for a terminal."""

from __future__ import annotations

import io
import logging
import sys

LOG = logging.getLogger("attune")


class _Printable(logging.Formatter):
    """Escapes what could control a terminal: names of files and classes are untrusted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line with every character that is not printable escaped, except line breaks and tabs."""
        text = super().format(record)
        return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def start_log(*, quiet: bool = False) -> None:
    """Send the log to standard output, once; `quiet` (ranks above 0) keeps warnings only."""
    if not LOG.handlers:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are not text
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_Printable("%(message)s"))
        LOG.addHandler(handler)
        LOG.propagate = False
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)


def printable(text: str) -> str:
    """Replace what is not printable, so that the name of a class or file cannot control a terminal or break a line."""
    return "".join(c if c.isprintable() else "?" for c in text)
