"""Opening every image of a data set once: whether it can be decoded, what it is, and how it looks."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from utils.data.doctor.image_hash import SIDE, fingerprint
from utils.files.safe_open import read_regular
from utils.images.reading import MAX_BYTES, ImageError, decode_image, image_traits

_LEAST = (96, 96)
"""A JPEG may be decoded at a fraction of its size that is still above this: the whole file is read all the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What one image file turned out to be.

    Attributes:
        digest: of its bytes.
        bits, thumb: its fingerprint.
        traits: see `image_traits`.
        fault: why it cannot be decoded; then the rest says nothing.
    """

    digest: bytes = b""
    bits: int = 0
    thumb: NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.zeros((SIDE, SIDE), np.uint8))
    traits: tuple[str, ...] = ()
    fault: str = ""


def look_at(path: str) -> Look:
    """Read and decode a file."""
    try:
        data = read_regular(path, MAX_BYTES)
        bits, thumb = fingerprint(decode_image(data, path, least=_LEAST))
    except OSError as error:
        return Look(fault=f"cannot be read ({error.strerror or error})")
    except ImageError as error:
        return Look(fault=str(error).removeprefix(f"{path}: "))
    return Look(hashlib.sha256(data).digest()[:16], bits, thumb, image_traits(data, os.path.splitext(path)[1]))  # noqa: PTH122


def look_at_all(paths: Sequence[str], advance: Callable[[int], object]) -> list[Look]:
    """Look at files, several at once; `advance` is called with the number of those done since its last call."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    looks: list[Look] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), 8 * workers):
            part = list(pool.map(look_at, paths[start : start + 8 * workers]))
            looks += part
            advance(len(part))
    return looks
