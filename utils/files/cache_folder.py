"""Where caches are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(given: str | Path | None = None) -> Path:
    """Return `given`, else ``$ATTUNE_CACHE``, ``$XDG_CACHE_HOME/attune`` or ``~/.cache/attune``; nothing is created."""
    if given is not None:
        return Path(given)
    if own := os.environ.get("ATTUNE_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "attune"
