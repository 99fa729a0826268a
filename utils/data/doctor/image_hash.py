"""Decode images and compare them by perceptual hashes: copies, and images that were scaled, re-encoded or slightly changed.

An image is represented by 64 bits and a thumbnail. The bits are the signs of its lowest DCT frequencies (Zauner, "Implementation
and Benchmarking of Perceptual Image Hash Functions", 2010); they find candidates, and the thumbnails decide. All pairs of bits
are compared, a block at a time: seconds for a hundred thousand images, and unlike an index over parts of the bits it takes no
longer where many images are alike.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.device import cpu_count
from utils.files.safe_open import read_regular
from utils.images.reading import MAX_BYTES, ImageError, decode_image, image_traits

SIDE = 16
"""Of a thumbnail, in pixels."""

DISTANCE = 10
"""Maximum number of different bits, of 64, between two files of one image."""

_MIN_SIZE = (96, 96)
"""A JPEG may be decoded at a fraction of its size that is still above this; the whole file is read all the same."""

_CORRELATION = 0.97
"""Minimum correlation of two thumbnails of one image, whatever happened to brightness and contrast."""

_FLAT = 4.0
"""Mean difference, of 255, up to which thumbnails are the same whatever their correlation, which is noise on flat areas."""

_BLOCK = 512
_NEAREST = 4
"""Candidates compared for each image and block; where hundreds are alike, a few are enough."""

Bits = NDArray[np.uint64]
Thumbs = NDArray[np.uint8]


def image_hash(image: NDArray[np.uint8]) -> tuple[int, Thumbs]:
    """Return the 64 bits and the (SIDE, SIDE) grey thumbnail of a (H, W, 3) BGR image."""
    if max(image.shape[:2]) > 4096:  # area interpolation by very large factors overflows
        image = cv2.resize(image, (min(image.shape[1], 4096), min(image.shape[0], 4096)), interpolation=cv2.INTER_NEAREST).astype(
            np.uint8, copy=False
        )
    grey = cv2.cvtColor(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    low[0] = 0  # the mean brightness
    bits = np.packbits(low > np.median(low[1:])).view(np.uint64)[0]
    return int(bits), cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


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


@dataclasses.dataclass(frozen=True, slots=True)
class NearestMatches:
    """For each of n images and each split, the most similar other image of that split.

    Attributes:
        partner: (n, splits) int64 number of that image, -1 where none is similar.
        distance: (n, splits) uint8 different bits; 255 where none is similar.
    """

    partner: NDArray[np.int64]
    distance: NDArray[np.uint8]


def find_similar(bits: Bits, thumbs: Thumbs, members: NDArray[np.int64], splits: int, *, distance: int = DISTANCE) -> NearestMatches:
    """Compare every image with every other.

    Args:
        bits: (n,) and thumbs (n, SIDE, SIDE), of `image_hash`.
        members: (n,) number of the split that each image belongs to.
        splits: how many there are.
        distance: maximum number of different bits.
    """
    count = len(bits)
    found = NearestMatches(np.full((count, splits), -1, np.int64), np.full((count, splits), 255, np.uint8))
    xor, counts = np.empty(_BLOCK * _BLOCK, np.uint64), np.empty(_BLOCK * _BLOCK, np.uint8)  # used again for every block
    for top in range(0, count, _BLOCK):
        for left in range(top, count, _BLOCK):
            upper, lower = slice(top, top + _BLOCK), slice(left, left + _BLOCK)
            a, b = bits[upper, None], bits[None, lower]
            different = np.bitwise_xor(a, b, out=xor[: a.size * b.size].reshape(a.size, b.size))
            block = np.bitwise_count(different, out=counts[: a.size * b.size].reshape(a.size, b.size))
            if top == left:
                block[np.tril_indices(len(block))] = 255  # itself, and each pair once
            near = block <= distance
            if np.count_nonzero(near) > _NEAREST * sum(block.shape):
                near &= block < found.distance[upper][:, members[lower]]
                near |= (block <= distance) & (block < found.distance[lower][:, members[upper]].T)
            rows, columns = _candidates(block, near)
            same = _same_image(thumbs, rows + top, columns + left)
            rows, columns = rows[same], columns[same]
            apart = block[rows, columns]
            _keep_nearest(found, rows + top, columns + left, apart, members)
            _keep_nearest(found, columns + left, rows + top, apart, members)
    return found


def _candidates(block: NDArray[np.uint8], near: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the marked pairs; where there are very many, of the nearest of each image."""
    chosen = np.flatnonzero(near)  # a tenth of the time of nonzero
    if len(chosen) > _NEAREST * sum(block.shape):
        block[~near] = 255
        chosen = np.flatnonzero(near & (_among_nearest(block, 1) | _among_nearest(block, 0)))
    rows, columns = np.divmod(chosen, block.shape[1])
    return rows, columns


def _among_nearest(apart: NDArray[np.uint8], axis: int) -> NDArray[np.bool_]:
    """Mark the `_NEAREST` smallest entries along an axis."""
    marks = np.zeros(apart.shape, np.bool_)
    nearest = np.argpartition(apart, min(_NEAREST, apart.shape[axis] - 1), axis)
    np.put_along_axis(marks, np.take(nearest, range(min(_NEAREST, apart.shape[axis])), axis), True, axis)
    return marks


def _same_image(thumbs: Thumbs, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    same = [np.zeros(0, np.bool_)]
    for start in range(0, len(rows), 4096):
        part = slice(start, start + 4096)
        a, b = (thumbs[numbers[part]].reshape(-1, SIDE * SIDE).astype(np.float32) for numbers in (rows, columns))
        difference = np.abs(a - b).mean(1)
        a, b = (thumb - thumb.mean(1, keepdims=True) for thumb in (a, b))
        energy = np.sqrt((a * a).sum(1) * (b * b).sum(1))
        same.append((difference <= _FLAT) | ((a * b).sum(1) > _CORRELATION * np.maximum(energy, 1e-6)))
    return np.concatenate(same)


def _keep_nearest(
    found: NearestMatches, mine: NDArray[np.int64], theirs: NDArray[np.int64], apart: NDArray[np.uint8], members: NDArray[np.int64]
) -> None:
    """Record, for each image and split, the nearest partner; of equals that with the lowest number."""
    order = np.lexsort((theirs, apart, members[theirs], mine))
    mine, theirs, apart = mine[order], theirs[order], apart[order]
    column = members[theirs]
    first = np.ones(len(mine), np.bool_)
    first[1:] = (mine[1:] != mine[:-1]) | (column[1:] != column[:-1])
    mine, theirs, apart, column = mine[first], theirs[first], apart[first], column[first]
    better = apart < found.distance[mine, column]
    found.partner[mine[better], column[better]] = theirs[better]
    found.distance[mine[better], column[better]] = apart[better]
