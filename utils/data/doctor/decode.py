"""Decode every image of a dataset once: whether it can be read, its format, and its perceptual hash."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.data.doctor.image_hash import SIDE, image_hash
from utils.device import cpu_count
from utils.files.safe_open import read_regular
from utils.images.reading import MAX_BYTES, ImageError, decode_image, image_traits

_MIN_SIZE = (96, 96)
"""A JPEG may be decoded at a fraction of its size that is still above this; the whole file is read all the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class DecodedImage:
    """What is known of an image file once it is decoded.

    Attributes:
        digest: of its bytes.
        bits, thumb: its perceptual hash and thumbnail.
        traits: see `image_traits`.
        fault: why it cannot be decoded; the other fields are empty then.
    """

    digest: bytes = b""
    bits: int = 0
    thumb: NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.zeros((SIDE, SIDE), np.uint8))
    traits: tuple[str, ...] = ()
    fault: str = ""


def decode_file(path: str) -> DecodedImage:
    """Read and decode a file."""
    try:
        data = read_regular(path, MAX_BYTES)
        bits, thumb = image_hash(decode_image(data, path, min_size=_MIN_SIZE))
    except OSError as error:
        return DecodedImage(fault=f"cannot be read ({error.strerror or error})")
    except ImageError as error:
        return DecodedImage(fault=str(error).removeprefix(f"{path}: "))
    return DecodedImage(hashlib.sha256(data).digest()[:16], bits, thumb, image_traits(data, os.path.splitext(path)[1]))  # noqa: PTH122


def decode_all(paths: Sequence[str]) -> list[DecodedImage]:
    """Decode files in threads."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(tqdm(pool.map(decode_file, paths), total=len(paths), desc="images", unit="", leave=False, disable=None))
