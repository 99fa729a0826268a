"""Files that have the name of one that Attune ships."""

from __future__ import annotations

import os
from pathlib import Path

from utils.log import LOG


def name_shadowed(found: Path, shipped: Path, *others: Path) -> None:
    """Log that a file was found before one of `others` in the folder `shipped`: a command may mean either."""
    for path in others:
        if path.is_relative_to(shipped) and os.path.isfile(path) and not found.resolve().is_relative_to(shipped):  # noqa: PTH113
            LOG.warning("%s is used, not the file of that name that Attune has (%s)", found.absolute(), path)
            return
