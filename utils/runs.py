"""Run folders, the log, the seed: what a script does before its work begins."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

from utils.errors import UserError

LOG = logging.getLogger("attune")


class _Printable(logging.Formatter):
    """Spells out what could steer a terminal: names of files and classes come from strangers."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with everything that cannot be printed as an escape; lines and tabs stay."""
        text = super().format(record)
        return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def start_log(*, quiet: bool = False) -> None:
    """Send the log to standard output, once; `quiet` (ranks above 0) keeps warnings only."""
    if not LOG.handlers:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are no text
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(_Printable("%(message)s"))
        LOG.addHandler(handler)
        LOG.propagate = False
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)


def printable(text: str) -> str:
    """Replace what is not printable, so that the name of a class or file cannot steer a terminal or break a line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def new_run_folder(project: str | Path, name: str, *, exist_ok: bool = False) -> Path:
    """Create and return ``project/name``, or ``project/name2``, ``name3``, ... when it is taken and `exist_ok` is off.

    Raises:
        UserError: no folder can be made there.
    """
    folder = Path(project) / name
    number = 1
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            number += 1
            folder = Path(project) / f"{name}{number}"
        except OSError as error:
            raise UserError(f"--project {project}: the folder {folder} cannot be made ({error.strerror or error})") from error
        else:
            return folder
