"""A checksum in a zip file: its comment is the SHA-256 of every byte before it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO

from utils.files.safe_open import open_regular

_MARK = b"attune sha256 "
_LENGTH = len(_MARK) + 64


def write_checksum(file: IO[bytes]) -> None:
    """Append the checksum to the zip in `file`, open for reading and writing, which must have no comment yet."""
    file.seek(-2, os.SEEK_END)
    file.write(_LENGTH.to_bytes(2, "little"))  # a zip ends with the length of its comment
    comment = _comment(file, file.seek(0, os.SEEK_END))
    file.seek(0, os.SEEK_END)
    file.write(comment)


def has_valid_checksum(path: Path) -> bool:
    """Whether the file has a checksum and not one bit of it has changed since.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        content = file.seek(0, os.SEEK_END) - _LENGTH
        if content < 0:
            return False
        expected = _comment(file, content)
        file.seek(content)
        return file.read() == expected


def _comment(file: IO[bytes], length: int) -> bytes:
    """The comment for the first `length` bytes of `file`."""
    file.seek(0)
    digest = hashlib.sha256()
    while length and (block := file.read(min(length, 1 << 20))):
        digest.update(block)
        length -= len(block)
    return _MARK + digest.hexdigest().encode()
