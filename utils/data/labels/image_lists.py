"""Lists of images: one a line, as YOLOv5, darknet and Pascal VOC write them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from utils.data.labels.match_names import FolderListings
from utils.errors import UserError
from utils.files.safe_open import read_regular
from utils.images.reading import IMAGE_SUFFIXES

_MAX_BYTES = 1 << 30
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
    the name of an image in ``JPEGImages``, without its suffix; so it is in other lists where an image of that name is near.

    Raises:
        UserError: the list cannot be read.
    """
    text = read_source(path, _MAX_BYTES).decode("utf-8-sig", errors="surrogateescape")
    listings = FolderListings()
    voc = path.parent.parent.parent / "JPEGImages"
    in_voc = path.parent.parent.name == "ImageSets" or bool(listings.names(str(voc)))
    images = []
    for line in filter(None, map(str.strip, text.splitlines())):
        has_suffix = PurePosixPath(line).suffix.lower() in IMAGE_SUFFIXES
        found = _named_image(line, voc, listings) if in_voc else None
        found = found or find_image(line, path.parent, listings)
        if found is None and not has_suffix:
            named = (_named_image(line, path.parent / place, listings) for place in (".", "images", "JPEGImages", "../images"))
            found = next(filter(None, named), voc / f"{_FLAG.sub('', line)}.jpg")
        images.append(found or path.parent / line)
    return images


def find_image(line: str, folder: Path, listings: FolderListings) -> Path | None:
    """Return the file that a path in a list means, which lies in `folder`; None without one."""
    for form in dict.fromkeys((line, line.replace("\\", "/"))):
        for base in (str(folder), str(Path.cwd())):
            if found := listings.find_path(base, form):
                return found
        for tail in tails(form):
            if found := listings.find_path(str(folder), tail):
                return found
    return None


def tails(path: str) -> Iterator[str]:
    """Yield a path without its first folder, then without the first two, and so on."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for at in range(len(parts)):
        if (tail := "/".join(parts[at:])) != path:
            yield tail


def _named_image(line: str, images: Path, listings: FolderListings) -> Path | None:
    for name in dict.fromkeys((line, _FLAG.sub("", line))):
        folder, stem = os.path.split(images / name)
        found = listings.find_stem(folder, stem) or (listings.find(folder, stem) if Path(stem).suffix.lower() in IMAGE_SUFFIXES else None)
        if found:
            return Path(folder, found)
    return None
