"""Letterbox: an image scaled into a rectangle with its aspect ratio kept, and the inverse mapping of boxes."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.geometry import ceil_to_stride

GREY = 114


@dataclasses.dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a source image lies inside a letterboxed one.

    Attributes:
        source: (height, width) of the source in pixels.
        shape: (height, width) of the letterboxed image in pixels.
        size: (height, width) the source is scaled to inside it.
        left, top: pixels of padding before it.
    """

    source: tuple[int, int]
    shape: tuple[int, int]
    size: tuple[int, int]
    left: int
    top: int

    def to_source(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (N, 4) xyxy boxes in letterboxed pixels to source pixels, clipped to the source."""
        sx, sy = self.source[1] / self.size[1], self.source[0] / self.size[0]
        out = (xyxy - np.array([self.left, self.top] * 2, np.float32)) * np.array([sx, sy] * 2, np.float32)
        limit = np.array([self.source[1], self.source[0]] * 2, np.float32)
        return np.clip(out, 0, limit).astype(np.float32)

    def from_source(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (N, 4) xyxy boxes in source pixels to letterboxed pixels."""
        sx, sy = self.size[1] / self.source[1], self.size[0] / self.source[0]
        return (xyxy * np.array([sx, sy] * 2, np.float32) + np.array([self.left, self.top] * 2, np.float32)).astype(np.float32)


def longest_side(source: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the (height, width) at which the source's longest side is `side` pixels; the other is rounded up, as YOLOv5's loader does."""
    ratio = side / max(source)
    return min(math.ceil(source[0] * ratio), side), min(math.ceil(source[1] * ratio), side)


def fit(
    source: tuple[int, int], shape: tuple[int, int], *, stride: int = 0, enlarge: bool = True, size: tuple[int, int] | None = None
) -> Letterbox:
    """Place a (height, width) source in a (height, width) shape.

    With `stride`, the shape shrinks to the minimum multiple of it that holds the scaled source. Without `enlarge` a source that is
    smaller than the shape keeps its size. With `size`, the source is first resized to that (height, width), as data loading does.
    """
    inner = size or source
    ratio = min(shape[0] / inner[0], shape[1] / inner[1])
    if not enlarge:
        ratio = min(ratio, 1.0)
    size = (max(round(inner[0] * ratio), 1), max(round(inner[1] * ratio), 1))
    if stride:
        shape = (ceil_to_stride(size[0], stride), ceil_to_stride(size[1], stride))
    # The -0.1 puts the extra pixel of odd padding on the right and the bottom, as YOLOv5 does.
    left, top = round((shape[1] - size[1]) / 2 - 0.1), round((shape[0] - size[0]) / 2 - 0.1)
    return Letterbox(source, shape, size, left, top)


def apply(image: NDArray[np.uint8], box: Letterbox) -> NDArray[np.uint8]:
    """Draw a (H, W, C) uint8 image into its letterbox; area interpolation when it shrinks, linear when it grows."""
    if image.shape[:2] != box.size:
        shrinks = box.size[0] < image.shape[0]
        image = cv2.resize(image, box.size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[assignment]
    out = np.full((*box.shape, image.shape[2]), GREY, np.uint8)
    out[box.top : box.top + box.size[0], box.left : box.left + box.size[1]] = image
    return out
