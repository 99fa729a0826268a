"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: Path, *, previous: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a file for writing and reading that takes the place of `path` once the block has ended without an error.

    It is on the disk by then, and so is its name. At every instant `path` or `previous` is whole.

    Args:
        path: of the file; what stands there keeps its permissions.
        previous: where the file that is replaced goes.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            if path.exists():
                temporary.chmod(path.stat().st_mode & 0o777)
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # gone already, unless something failed above
            temporary.unlink()
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    with replacing(path) as file:
        file.write(text.encode(errors="surrogateescape"))


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left half-written in a folder; nobody may be writing there now."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")  # always the same: what a kill leaves behind, the next writer overwrites


def _keep(path: Path, previous: Path) -> None:
    """Give the file at `path` a second name, or where the file system has no links, that name alone."""
    link = _temporary(previous)
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(path)
    except OSError:
        path.replace(previous)
    else:
        link.replace(previous)
        link.unlink(missing_ok=True)  # still there if `previous` was a name of this very file, after a kill: then renaming does nothing


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows has no such thing
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
