"""A user's own augmentation: ``--augment my_file.py:function``."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError


class _Loader(SourceFileLoader):
    """Loads a file without writing ``__pycache__`` to the user's folder."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Discard the bytecode."""


class UserTransform:
    """Calls ``function(image, boxes, classes, rng)`` of a user's file after the other augmentations of a training sample.

    The function gets the image (H, W, 3) uint8 RGB, boxes (n, 4) float32 left, top, right, bottom in pixels, classes (n,) int64, and the
    sample's own random generator, a function of seed, epoch and image; with no other source of chance a run repeats and resumes to the
    bit. It returns the same three, the image in its size; boxes are cut at the border, and those without area dropped.

    Args:
        text: ``file.py:function``.
        nc: number of classes.

    Raises:
        UserError: no such file or function, or the file raises.
    """

    def __init__(self, text: str, nc: int) -> None:
        self.text, self.nc = text, nc
        _load(text)

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32], classes: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """Transform a sample.

        Raises:
            UserError: the function raises, or returns something else than it should.
        """
        try:
            found, new_boxes, new_classes = _load(self.text)(image.copy(), boxes.copy(), classes.copy(), rng)
            found, new_boxes = np.asarray(found), np.asarray(new_boxes, np.float32).reshape(-1, 4)
            new_classes = np.asarray(new_classes).reshape(-1)
        except Exception as error:  # whatever a user's code raises, such as cv2.error or one of its own
            raise UserError(f"--augment {self.text}: {type(error).__name__}: {error}") from error
        if problem := self._problem(image, found, new_boxes, new_classes):
            raise UserError(f"--augment {self.text}: {problem}")
        height, width = image.shape[:2]
        new_boxes = new_boxes.clip(0, np.array([width, height] * 2, np.float32))
        keep = (new_boxes[:, 2:] > new_boxes[:, :2]).all(1)
        return found, new_boxes[keep], new_classes[keep].astype(np.int64)

    def _problem(self, image: NDArray[np.uint8], found: NDArray[Any], boxes: NDArray[np.float32], classes: NDArray[Any]) -> str:
        if found.shape != image.shape or found.dtype != np.uint8:
            return f"returned an image {found.shape} of {found.dtype}, not {image.shape} of uint8"
        if len(boxes) != len(classes):
            return f"returned {len(boxes)} boxes and {len(classes)} classes"
        if not np.isfinite(boxes).all():
            return "returned a box that is NaN or infinite"
        if len(classes) and not (np.issubdtype(classes.dtype, np.number) and np.isin(classes, np.arange(self.nc)).all()):
            return f"returned a class that is none of 0 to {self.nc - 1}"
        return ""


@functools.cache
def _load(text: str) -> Callable[..., Any]:
    """Import the file, once in each process, and return the function."""
    file, _, name = text.rpartition(":")
    if Path(file).suffix != ".py" or not name or not os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        raise UserError(f"--augment {text}: expected file.py:function, a file that exists")
    loader = _Loader("attune_user_transform", file)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None, "the loader is given"
    module = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
    except Exception as error:  # whatever a user's code raises, such as cv2.error or one of its own
        raise UserError(f"--augment {text}: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"--augment {text}: the file has no function {name!r}")
    return function
