"""The screen as a source, where the `mss` package is installed."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.images.video import FALLBACK_FPS
from utils.inference.frame import Frame


class Screen:
    """Captures of a screen, or of a rectangle on it, one as soon as the last has been processed."""

    live = True

    def __init__(self, numbers: Sequence[int], *, stride: int = 1) -> None:
        """Take the words after ``screen``: nothing, a screen number, left top width height, or both.

        Args:
            numbers: screen 0 is all screens together, 1 the first; a rectangle is in pixels of its screen.
            stride: use every k-th capture.

        Raises:
            UserError: wrong number of arguments, no such screen, or mss is missing.
        """
        if len(numbers) not in (0, 1, 4, 5):
            raise UserError("--source 'screen [n] [l t w h]': expected nothing, a screen number, left top width height, or both")
        if importlib.util.find_spec("mss") is None:
            raise UserError("--source screen needs the package mss: pip install mss")
        self.failures: dict[str, str] = {}
        self.notes: list[str] = []
        self._stride = stride
        self._number = numbers[0] if len(numbers) in (1, 5) else 0
        import mss

        try:
            self._capture: Any = mss.mss()
        except mss.ScreenShotError as error:
            raise UserError(f"--source screen: no screen can be read here ({error})") from error
        screens = self._capture.monitors
        if not 0 <= self._number < len(screens):
            raise UserError(f"--source screen {self._number}: no such screen; there are 0 (all) to {len(screens) - 1}")
        self._area = dict(screens[self._number])
        if len(numbers) >= 4:
            left, top, width, height = numbers[-4:]
            if width < 1 or height < 1:
                raise UserError(f"--source screen: a rectangle of {width} x {height} pixels is empty")
            self._area = {"left": self._area["left"] + left, "top": self._area["top"] + top, "width": width, "height": height}

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        while True:
            number += 1
            pixels = np.asarray(self._capture.grab(self._area), np.uint8)  # (H, W, 4) BGRA
            if (number - 1) % self._stride == 0:
                image = np.ascontiguousarray(pixels[..., :3])
                yield Frame(image, Path("screen"), "screen", "screen", number=number, fps=FALLBACK_FPS / self._stride, time=time.time())

    def close(self) -> None:
        """Release the screen."""
        self._capture.close()
