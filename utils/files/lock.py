"""One process per folder: a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from utils.errors import UserError
from utils.files.run_folders import refuse_links
from utils.log import LOG

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
"""The locked file in the folder. It stays there without a holder, and is empty then unless the holder was killed."""


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder until the block ends or the process dies. Child processes do not hold it.

    Where there is no `flock` (Windows, some network file systems), nothing is locked and a warning is logged.

    Raises:
        UserError: it is held already, by this process or another, the folder contains links, or the lock file cannot be written.
    """
    refuse_links(folder)
    path = folder / NAME
    try:
        file = path.open("a+b", buffering=0)  # "w" would erase who holds the lock
        if os.fstat(file.fileno()).st_nlink > 1:  # what is written here would be written into the other file too
            file.close()
            raise OSError(errno.EMLINK, "it is a hard link; remove it if no other process uses the folder")
    except OSError as error:
        raise UserError(f"{folder}: cannot be locked, {path} cannot be written ({error.strerror or error})") from error
    with file:
        _acquire(file, folder)
        _write(file, f"process {os.getpid()} on {socket.gethostname()} since {datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}\n")
        _held().add(file)
        try:
            yield
        finally:
            _held().discard(file)
            if not file.closed:  # as in a forked child that leaves the block
                _write(file, "")
                if fcntl is not None:  # release it even while a child that was just forked has not closed the file yet
                    with contextlib.suppress(OSError):
                        fcntl.flock(file, fcntl.LOCK_UN)


def _acquire(file: IO[bytes], folder: Path) -> None:
    if fcntl is None:
        LOG.warning("%s: this system has no file locks; make sure that no second process writes there", folder)
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(1000).decode(errors="replace").strip() or "another process"
        raise UserError(f"{folder} is in use by {holder}; wait, stop it, or give another --name") from error
    except OSError as error:
        LOG.warning("%s: this file system has no locks (%s); make sure that no second process writes there", folder, error.strerror)


def _write(file: IO[bytes], holder: str) -> None:
    """Write who holds the lock; on a full disk it is held all the same."""
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(holder.encode())


@functools.cache
def _held() -> set[IO[bytes]]:
    """The locks of this process.

    A forked child closes them: it shares them with its parent, and a loader worker that outlives a killed training would keep the
    folder locked.
    """
    files: set[IO[bytes]] = set()

    def close() -> None:
        for file in files:
            file.close()
        files.clear()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=close)
    return files
