"""Writing pictures, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import StorageError, UserError
from utils.log import LOG

JPEG_QUALITY = 95
WRITABLE = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@contextlib.contextmanager
def dispensable() -> Iterator[None]:
    """Draw pictures within: one that cannot be written is said to be missing, and stops nothing."""
    try:
        yield
    except StorageError as error:
        LOG.warning("%s; going on without this picture", error)
    except OSError as error:
        LOG.warning("%s: cannot be written (%s); going on without this picture", error.filename or "a picture", error.strerror or error)


def write_image(path: Path, image: NDArray[np.uint8], *, sharp: bool = False) -> None:
    """Write a (H, W, 3) uint8 BGR image in the format of the path's suffix.

    Args:
        path: the file; an existing one is replaced.
        image: the pixels.
        sharp: keep a JPEG's colours at full resolution (4:4:4).

    Raises:
        UserError: the suffix names no format that can be written.
        StorageError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise UserError(f"{path}: pictures are written as {', '.join(sorted(WRITABLE))}, not as {suffix or 'a file without suffix'}")
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    if options and sharp:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    try:
        ok, data = cv2.imencode(suffix, image, options)
    except cv2.error as error:  # a side too long for the format
        raise UserError(f"{path}: cannot be written as {suffix} ({error.err})") from error
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data.tobytes() if ok else b"")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
