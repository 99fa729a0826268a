"""Lists of images: one a line, as YOLOv5, darknet and Pascal VOC write them."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path

from utils.data.labels.match_names import FolderListings
from utils.errors import UserError
from utils.files.encodings import decode_text
from utils.files.safe_open import read_regular
from utils.images.reading import IMAGE_SUFFIXES

_MAX_BYTES = 1 << 30
_MAX_PATH = 4096
"""Characters; Linux takes no longer ones."""
_MAX_TAILS = 32
_FLAG = re.compile(r"\s+(?:-1|0|1)$")
"""VOC's lists of a class state whether the image shows it."""


def read_source(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file that a dataset names.

    Raises:
        UserError: it cannot be read, or is larger.
    """
    try:
        return read_regular(path, max_bytes)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def read_list(path: Path) -> list[Path]:
    """Return the images that a .txt list names, one a line.

    A line is an absolute path, or relative to the list's folder or else to the working directory. Leading folders that are not there
    are dropped: lists are written for other machines, and darknet's start with ``data/``. In VOC's ``ImageSets/Main/*.txt``, a line is
    the name of an image in ``JPEGImages``, without its suffix; so it is in other lists where an image of that name is near. A line may
    stand in quotes, and one that begins with # and is no image is a comment.

    Raises:
        UserError: the list cannot be read.
    """
    content = read_source(path, _MAX_BYTES)
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = decode_text(content)[0] if utf16 else content.decode("utf-8-sig", errors="surrogateescape")
    listings = FolderListings()
    folder, voc = str(path.parent), str(path.parent.parent.parent / "JPEGImages")
    in_voc = path.parent.parent.name == "ImageSets" or bool(listings.names(voc))
    near = [str(path.parent / place) for place in (".", "images", "JPEGImages", "../images")]
    images = []
    for line in filter(None, dict.fromkeys(map(str.strip, text.splitlines()))):
        found = _named_image(line, voc, listings) if in_voc else None
        found = found or next(filter(None, (find_image(form, folder, listings) for form in _forms(line))), None)
        if found is None and not _has_suffix(line):
            found = next(filter(None, (_named_image(line, place, listings) for place in near)), None)
            if found is None and in_voc:
                found = Path(voc, f"{_FLAG.sub('', line)}.jpg")
        if found or not line.startswith("#"):
            images.append(found or Path(folder, line))
    return images


def _forms(line: str) -> Iterator[str]:
    """Yield what a line may say: it as it is, without its quotes, and in the encoding that it is in where that is not UTF-8."""
    yield line
    if line[0] == line[-1] in ("'", '"'):
        yield line[1:-1]
    if not line.isascii() and (decoded := decode_text(line.encode(errors="surrogateescape"))[0]) != line:
        yield decoded


def _has_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def find_image(line: str, folder: str, listings: FolderListings) -> Path | None:
    """Return the file that a path in a list means, which lies in `folder`; None without one."""
    if len(line) > _MAX_PATH:
        return None
    for form in dict.fromkeys((line, line.replace("\\", "/"))):
        for base in (folder, os.getcwd()):  # noqa: PTH109
            if found := listings.find_path(base, form):
                return found
        for tail in tails(form):
            if found := listings.find_path(folder, tail):
                return found
    return None


def tails(path: str) -> Iterator[str]:
    """Yield a path without its first folder, then without the first two, and so on; of a deeper one the shortest 32 such forms."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")] if len(path) <= _MAX_PATH else []
    for at in range(max(len(parts) - _MAX_TAILS, 0), len(parts)):
        if (tail := "/".join(parts[at:])) != path:
            yield tail


def _named_image(line: str, images: str, listings: FolderListings) -> Path | None:
    for name in dict.fromkeys((line, _FLAG.sub("", line))):
        folder, stem = os.path.split(os.path.join(images, name))  # noqa: PTH118
        found = listings.find_stem(folder, stem) or (listings.find(folder, stem) if _has_suffix(stem) else None)
        if found:
            return Path(folder, found)
    return None
