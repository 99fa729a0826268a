"""What a file is and holds, told from its first and last bytes."""

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


def looks_like(head: bytes) -> str:
    """What a file that is no checkpoint begins like."""
    start = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page: the download failed"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run 'git lfs pull'"
    if head[257:262] == b"ustar":
        return "it is a tar archive, as torch wrote before 0.4"
    return "neither a zip archive nor a stream of torch.save"
