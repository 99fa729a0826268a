"""Unpack untrusted zip and tar archives: files and folders below one folder, and nothing else."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, Self

from utils.errors import UserError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

MAX_FILES = 5_000_000
MAX_RATIO = 100
"""Unpacked bytes per byte of the archive; label files reach 10."""
MAX_HEADER_BYTES = 1 << 20
"""Size of a tar header that describes a member's name and attributes."""
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
FREE_BYTES = 64 << 20
"""Unpacked bytes up to which the ratio is not checked."""


class ArchiveMember(NamedTuple):
    """A file or folder of an archive; `file` is None for a folder."""

    name: str
    size: int
    file: IO[bytes] | None


def unpack(archive: Path, target: Path) -> None:
    """Unpack `archive` into the existing, empty folder `target`.

    Raises:
        UserError: not an archive, damaged, encrypted, a member that is a link, a device or outside `target`, or more files or bytes than
            allowed. Files unpacked until then stay in `target`.
    """
    members = _zip_members(archive) if archive.suffix == ".zip" else _tar_members(archive)
    room = min(max(archive.stat().st_size * MAX_RATIO, FREE_BYTES), shutil.disk_usage(target).free)
    try:
        for count, member in enumerate(members, 1):
            room -= member.size
            if count > MAX_FILES or room < 0:
                raise UserError(f"refused: it unpacks to more than {MAX_FILES} files, {MAX_RATIO} times its size, or the free space")
            place = target / _safe_path(member.name)
            if member.file is None:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            with member.file, place.open("xb") as out:
                _copy(member, out)
    except UserError as error:
        raise UserError(f"{archive.name}: {error}") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError, FileExistsError) as error:
        raise UserError(f"{archive.name}: damaged, encrypted, or not an archive ({error})") from error


def _copy(member: ArchiveMember, out: IO[bytes]) -> None:
    assert member.file is not None
    left = member.size
    while chunk := member.file.read(min(1 << 20, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise UserError(f"refused: {member.name!r} is larger than declared")
        out.write(chunk)
    if left:
        raise UserError(f"{member.name!r} is cut off")


def _safe_path(name: str) -> PurePosixPath:
    """Return a member's name as a relative path without steps upwards."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.search(r"[\x00-\x1f]|^[A-Za-z]:", name):
        raise UserError(f"refused: {name!r} is outside the dataset's folder")
    return path


def _zip_members(archive: Path) -> Iterator[ArchiveMember]:
    with zipfile.ZipFile(archive) as source:
        for entry in source.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"refused: {entry.filename!r} is a link or a device")
            yield ArchiveMember(entry.filename, entry.file_size, None if entry.is_dir() else source.open(entry))


class _Header(tarfile.TarInfo):
    """A header with a checked size: descriptions are read into memory, and a negative size would loop forever."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header block."""
        header = super().frombuf(buf, encoding, errors)
        described = header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, *_LONG_NAMES)
        if header.size < 0 or (described and header.size > MAX_HEADER_BYTES):
            raise UserError(f"refused: a header claims {header.size} bytes")
        return header


def _tar_members(archive: Path) -> Iterator[ArchiveMember]:
    with tarfile.open(archive, tarinfo=_Header) as source:
        for entry in source:
            if entry.size < 0:
                raise UserError(f"refused: {entry.name!r} claims {entry.size} bytes")
            if not (entry.isdir() or entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
                raise UserError(f"refused: {entry.name!r} is a link or a device")
            yield ArchiveMember(entry.name, entry.size, None if entry.isdir() else source.extractfile(entry))
