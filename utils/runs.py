"""Run folders, the log, the seed: what a script does before its work begins."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

LOG = logging.getLogger("attune")


def start_log(*, quiet: bool = False) -> None:
    """Send the log to standard output, once; `quiet` (ranks above 0) keeps warnings only."""
    if not LOG.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOG.addHandler(handler)
        LOG.propagate = False
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)


def new_run_folder(project: str | Path, name: str, *, exist_ok: bool = False) -> Path:
    """Create and return ``project/name``, or ``project/name2``, ``name3``, ... when it is taken and `exist_ok` is off."""
    folder = Path(project) / name
    number = 1
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            number += 1
            folder = Path(project) / f"{name}{number}"
        else:
            return folder
