"""Decoded images at the resolution of the loader, cached in memory or on the disk.

Caching never changes the pixels.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from utils.data.loading.shared_memory import free_memory, shared_bytes
from utils.files.atomic import atomic_write
from utils.files.cache_folder import cache_folder
from utils.images.letterbox import longest_side
from utils.images.reading import ImageError, read_image
from utils.log import LOG

Image = NDArray[np.uint8]
Size = tuple[int, int]

AUTOMATIC = 128 * 2**20
"""A training set up to this many bytes is kept in shared memory by default."""

_MARGIN = 1.1
_LOCK_TIMEOUT = 10.0
"""Seconds after which the lock of the images in memory, held for microseconds, counts as lost."""
_RESERVE = 2**28  # bytes left for batches and everything else


def kept_size(source: Size, side: int, *, enlarge: bool) -> Size:
    """Return the (height, width) at which an image is kept: longest side `side`; smaller ones grow only with `enlarge`."""
    return longest_side(source, side) if enlarge or max(source) > side else source


def load(path: Path, size: Size, *, exact: bool) -> Image:
    """Read an image as (height, width, 3) BGR of a given size.

    With `exact` it is decoded in full and scaled as for validation (area interpolation down, linear up). Else JPEGs are decoded at the
    minimum of 1, 1/2, 1/4, 1/8 that is not below the size, which is faster and as good for training.

    Raises:
        ImageError: the file cannot be read.
    """
    image = read_image(path) if exact else read_image(path, min_size=size)
    if image.shape[:2] == size:
        return image
    down = image.shape[0] > size[0]
    strong = exact or image.shape[0] > 2 * size[0]  # linear interpolation skips pixels below one half
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if down and strong else cv2.INTER_LINEAR)  # type: ignore[return-value]


class ImageStore:
    """The images of a dataset by index, each resized to its kept size.

    Args:
        paths: of the images.
        sizes: (n, 2) original height and width.
        side: longest side in pixels after resizing.
        exact: scale as for validation, see `load`; images smaller than `side` are enlarged.
        recent: number of recently used images that this process keeps.
        cache: "ram" keeps all in shared memory, "disk" in the cache folder, "auto" in shared memory if they are small, "" none;
            images that do not fit are not cached, with a warning.
    """

    def __init__(
        self, paths: Sequence[Path], sizes: NDArray[np.int32], side: int, *, exact: bool, recent: int = 32, cache: str = ""
    ) -> None:
        self.paths, self.exact, self.recent = paths, exact, recent
        self.sizes = [kept_size((int(h), int(w)), side, enlarge=exact) for h, w in sizes]
        self._last: collections.OrderedDict[int, Image] = collections.OrderedDict()
        total = sum(3 * h * w for h, w in self.sizes)
        self._shared: SharedImages | None = None
        if total and _in_memory(cache, total):
            try:
                self._shared = SharedImages(self.sizes)
            except RuntimeError as error:
                LOG.warning("images are not kept in memory: %s", error)
        self._folder = _disk_folder(total) if cache == "disk" else None

    def __call__(self, i: int) -> Image:
        """Return image i, (H, W, 3) BGR; must not be modified.

        Raises:
            ImageError: the file cannot be read.
        """
        if self._shared is not None:
            image = self._shared.get(i)
            if image is None:
                image = self._read(i)
                self._shared.put(i, image)
            return image
        if i in self._last:
            self._last.move_to_end(i)
            return self._last[i]
        image = self._read(i)
        if self.recent:
            self._last[i] = image
            if len(self._last) > self.recent:
                self._last.popitem(last=False)
        return image

    def _read(self, i: int) -> Image:
        path, size = self.paths[i], self.sizes[i]
        if self._folder is None:
            return load(path, size, exact=self.exact)
        try:
            state = path.stat()
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
        identity = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{size}|{self.exact}"
        file = self._folder / f"{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()[:32]}.npy"
        try:
            image = np.load(file, allow_pickle=False)
            if image.dtype == np.uint8 and image.shape == (*size, 3):
                return image
        except (OSError, ValueError, EOFError):
            pass  # missing or damaged: written again
        image = load(path, size, exact=self.exact)
        with contextlib.suppress(OSError), atomic_write(file, durable=False) as out:  # a full disk costs the cache, not the run
            np.save(out, image, allow_pickle=False)
        return image


class SharedImages:
    """Images in memory shared by all loader processes, each stored by the first that reads it."""

    def __init__(self, sizes: Sequence[Size]) -> None:
        self._sizes = sizes
        self._starts = np.concatenate(([0], np.cumsum([3 * h * w for h, w in sizes], dtype=np.int64)))
        self._bytes = shared_bytes(int(self._starts[-1]))
        self._filled = torch.zeros(len(sizes), dtype=torch.bool).share_memory_()
        self._lock = torch.multiprocessing.get_context().Lock()
        self._lost = False  # whether a killed process still holds the lock

    def get(self, i: int) -> Image | None:
        """Return image i, or None before it is stored."""
        if not self._acquire():  # orders the flag after the pixels
            return None
        filled = bool(self._filled[i])
        self._lock.release()
        return self._pixels(i) if filled else None

    def put(self, i: int, image: Image) -> None:
        """Store image i. Two processes may do so at once: they write the same bytes."""
        self._pixels(i)[:] = image
        if self._acquire():
            self._filled[i] = True
            self._lock.release()

    def _acquire(self) -> bool:
        """Acquire the lock; False if it is lost, and then every image is read from its file again."""
        if self._lost or self._lock.acquire(timeout=_LOCK_TIMEOUT):
            return not self._lost
        LOG.warning("the image cache in memory is disabled: a killed process holds its lock")
        self._lost = True
        return False

    def _pixels(self, i: int) -> Image:
        flat = self._bytes.numpy()[self._starts[i] : self._starts[i + 1]]
        return flat.reshape(*self._sizes[i], 3)


def _in_memory(cache: str, total: int) -> bool:
    """Whether `total` bytes are kept in shared memory; logs a refused request."""
    if cache not in ("ram", "auto") or (cache == "auto" and total > AUTOMATIC):
        return False
    free = free_memory() - _RESERVE
    if total * _MARGIN <= free:
        return True
    if cache == "ram":
        LOG.warning("--cache ram: the images need %.1f GB and %.1f GB are free; they are not cached", total / 1e9, max(free, 0) / 1e9)
    return False


def _disk_folder(total: int) -> Path | None:
    folder = cache_folder() / "images"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        LOG.warning("--cache disk: %s; images are not cached (ATTUNE_CACHE names another folder)", error)
        return None
    if total * _MARGIN > free:
        LOG.warning("--cache disk: the images need %.1f GB and %s has %.1f GB; they are not cached", total / 1e9, folder, free / 1e9)
        return None
    return folder
