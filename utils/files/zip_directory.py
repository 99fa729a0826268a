"""The list of entries at the end of a zip archive."""

from __future__ import annotations

import struct
from typing import IO


def directory_bytes(file: IO[bytes], length: int) -> int:
    """The size of a zip's list of entries in bytes, 0 if it has none: known before the list, of which each entry takes memory, is read."""
    tail = min(length, 22 + (1 << 16))
    file.seek(length - tail)
    end = file.read(tail)
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > tail:
        return 0
    (size,) = struct.unpack_from("<L", end, at + 12)
    long = end.rfind(b"PK\x06\x06", 0, at)  # zip64, whose own field counts
    return max(int(size) if size != 0xFFFFFFFF else 0, struct.unpack_from("<Q", end, long + 40)[0] if 0 <= long <= at - 56 else 0)
