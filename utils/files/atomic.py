"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def atomic_write(path: Path, *, previous: Path | None = None, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file for writing and reading that replaces `path` once the block has ended without an error.

    At every instant `path` or `previous` is whole. Where `path` is a link, the link is replaced, and what it leads to is not touched.

    Args:
        path: of the file; an existing one keeps its permissions.
        previous: where the file that is replaced goes.
        durable: the file and its name are on the disk when the block has ended, and one process at a time writes `path`. Without it,
            several may, as caches and images need.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    # A fixed name: what a killed process leaves behind, the next writer overwrites.
    temporary = _temporary(path) if durable else path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("x+b") as file:  # created, so that it is no link to another file
            yield file
            file.flush()
            if path.is_file() and not path.is_symlink():
                temporary.chmod(path.stat().st_mode & 0o777)
            if durable:
                os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # replaced already, unless something failed above
            temporary.unlink()
    if durable and os.name != "nt":  # Windows cannot sync a folder
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a UTF-8 text file in one step; bytes of a file name that are no text are written as they are.

    Raises:
        OSError: the file cannot be written; what was there before still is.
    """
    try:
        content = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        content = text.encode(errors="backslashreplace")
    with atomic_write(path, durable=durable) as file:
        file.write(content)


def open_new(path: Path) -> IO[str]:
    """Open a UTF-8 text file for writing in place of the file or link that has its name.

    Raises:
        OSError: it cannot be created.
    """
    path.unlink(missing_ok=True)
    return path.open("x", encoding="utf-8", errors="backslashreplace", newline="")


def open_append(path: Path) -> IO[bytes]:
    """Open a file to append to. A link is replaced by a file, and one with further names (hard links) by a copy of its own.

    Raises:
        OSError: it cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        there = path.lstat()
        if not stat.S_ISREG(there.st_mode):
            path.unlink()
        elif there.st_nlink > 1:
            content = path.read_bytes()
            with atomic_write(path) as file:
                file.write(content)
    return path.open("ab")


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left half-written in a folder; nobody may be writing there now."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


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
        link.unlink(missing_ok=True)  # still there if `previous` named this very file, after a kill: then renaming does nothing
