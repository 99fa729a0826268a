"""Write images in one step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import StorageError, UserError
from utils.files.atomic import atomic_write
from utils.log import LOG

JPEG_QUALITY = 95
WRITABLE = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@contextlib.contextmanager
def optional_output() -> Iterator[None]:
    """Log whatever goes wrong in drawing and writing an image in the block as a warning: no picture is worth a result."""
    try:
        yield
    except UserError as error:
        LOG.warning("%s; continuing without this image", error)
    except OSError as error:
        LOG.warning("%s: cannot be written (%s); continuing without this image", error.filename or "an image", error.strerror or error)
    except Exception as error:  # noqa: BLE001 - a font, a matplotlibrc that cannot be read, memory, a name that cannot be drawn
        LOG.warning("an image cannot be drawn (%s: %s); continuing without it", type(error).__name__, " ".join(str(error).split())[:300])


def write_image(path: Path, image: NDArray[np.uint8], *, sharp: bool = False) -> None:
    """Write a (H, W, 3) uint8 BGR image in the format of the path's suffix.

    Args:
        path: the file; an existing one is replaced.
        image: the pixels.
        sharp: no chroma subsampling in a JPEG (4:4:4).

    Raises:
        UserError: the suffix names no writable format.
        StorageError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise UserError(f"{path}: cannot write {suffix or 'a file without suffix'}; writable formats are {', '.join(sorted(WRITABLE))}")
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    if options and sharp:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    try:
        ok, data = cv2.imencode(suffix, image, options)
    except cv2.error as error:  # a side too long for the format
        raise UserError(f"{path}: cannot be written as {suffix} ({error.err})") from error
    try:
        with atomic_write(path, durable=False) as file:
            file.write(data.tobytes() if ok else b"")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
