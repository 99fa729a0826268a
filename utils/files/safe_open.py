"""Read untrusted files: without waiting on a pipe, and up to a maximum size."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    The check follows the opening, so a pipe that replaces the file at that moment cannot block.

    Raises:
        OSError: it cannot be opened, or is a folder, a named pipe, a socket or a device; also for an invalid path.
    """
    try:
        number = os.open(path, _FLAGS)
    except ValueError as error:  # a NUL in it
        raise OSError(errno.EINVAL, str(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        return open(number, "rb")  # noqa: PTH123
    except OSError:
        os.close(number)
        raise


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """Return a regular file's content.

    Raises:
        OSError: as `open_regular`; it cannot be read, or has more than `max_bytes` bytes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(errno.EFBIG, f"larger than {max_bytes >> 20} MiB")
        return file.read(size)  # a larger number would be allocated first
