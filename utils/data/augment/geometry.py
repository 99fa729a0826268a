"""Geometry of augmentation: random warps, their matrices, and the mapping of boxes and polygons.

Coordinates are continuous: the first pixel covers 0..1 x 0..1, so an edge at x = 3 lies between columns 2 and 3. OpenCV puts
coordinates at pixel centres instead; `centred` converts a matrix. Boxes are xyxy in pixels unless stated otherwise; N may be 0;
arguments are never modified.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.config import Hyp
from utils.geometry import area, intersection

Array = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]
Boxes = NDArray[np.float32]
Polygons = list[NDArray[np.float32]]

_MIN_SCALE = 0.01
_MIN_DEPTH = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Warp:
    """A perspective, rotation, scale, shear, shift and flip. The default is the identity.

    Attributes:
        angle: degrees, counter-clockwise.
        scale: factor about the centre.
        shear: degrees along x and along y.
        perspective: coefficients of x and y in the projective row, 1/pixel.
        shift: where the source's centre goes, as a fraction of the target's width and height.
        flip_x, flip_y: mirror left to right, upside down; applied last.
    """

    angle: float = 0.0
    scale: float = 1.0
    shear: tuple[float, float] = (0.0, 0.0)
    perspective: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.5, 0.5)
    flip_x: bool = False
    flip_y: bool = False


def draw_warp(rng: np.random.Generator, hyp: Hyp) -> Warp:
    """Draw a warp within the ranges of the hyper-parameters; the number of random draws does not depend on them."""
    spread = rng.uniform(-1, 1, 8)
    flips = rng.random(2)
    return Warp(
        angle=float(spread[0] * hyp.degrees),
        scale=max(1 + float(spread[1] * hyp.scale), _MIN_SCALE),
        shear=(float(spread[2] * hyp.shear), float(spread[3] * hyp.shear)),
        perspective=(float(spread[4] * hyp.perspective), float(spread[5] * hyp.perspective)),
        shift=(0.5 + float(spread[6] * hyp.translate), 0.5 + float(spread[7] * hyp.translate)),
        flip_x=bool(flips[0] < hyp.fliplr),
        flip_y=bool(flips[1] < hyp.flipud),
    )


def warp_matrix(warp: Warp, source: tuple[int, int], target: tuple[int, int]) -> Matrix:
    """Return the 3 x 3 matrix that maps points of a (height, width) source to a (height, width) target.

    It is Flip · Translate · Shear · Rotate and scale · Perspective · Centre, applied from the right. A perspective so strong that a
    corner of the source would come near the horizon or behind it is weakened.
    """
    depth = abs(warp.perspective[0]) * source[1] / 2 + abs(warp.perspective[1]) * source[0] / 2
    weaken = min(1.0, (1 - _MIN_DEPTH) / depth) if depth else 1.0
    centre = translation(-source[1] / 2, -source[0] / 2)
    perspective = np.eye(3)
    perspective[2, :2] = warp.perspective[0] * weaken, warp.perspective[1] * weaken
    a, b = warp.scale * math.cos(math.radians(warp.angle)), warp.scale * math.sin(math.radians(warp.angle))
    rotate = np.array([[a, b, 0], [-b, a, 0], [0, 0, 1]])
    shear = np.eye(3)
    shear[0, 1], shear[1, 0] = math.tan(math.radians(warp.shear[0])), math.tan(math.radians(warp.shear[1]))
    shift = translation(warp.shift[0] * target[1], warp.shift[1] * target[0])
    flip = np.array([[-1.0, 0, target[1]], [0, 1, 0], [0, 0, 1]]) if warp.flip_x else np.eye(3)
    if warp.flip_y:
        flip = np.array([[1.0, 0, 0], [0, -1, target[0]], [0, 0, 1]]) @ flip
    return flip @ shift @ shear @ rotate @ perspective @ centre


def translation(x: float, y: float) -> Matrix:
    """Return the 3 x 3 matrix of a translation."""
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def centred(matrix: Matrix) -> Matrix:
    """Convert a matrix of continuous coordinates to one of pixel centres, for OpenCV's warps."""
    return translation(-0.5, -0.5) @ matrix @ translation(0.5, 0.5)


def is_upright(matrix: Matrix) -> bool:
    """Whether rectangles stay rectangles: no rotation, shear or perspective."""
    return matrix[0, 1] == matrix[1, 0] == matrix[2, 0] == matrix[2, 1] == 0


def transform(points: Array, matrix: Matrix) -> Matrix:
    """Map (..., 2) points."""
    out = points @ matrix[:2, :2].T + matrix[:2, 2]
    if matrix[2, 0] != 0 or matrix[2, 1] != 0:
        out = out / (points @ matrix[2, :2] + matrix[2, 2])[..., None]
    return out


def corners(boxes: Array) -> Array:
    """(N, 4) xyxy -> (N, 4, 2) corner points, in order around each box."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def transform_boxes(boxes: Array, matrix: Matrix) -> Boxes:
    """Map (N, 4) xyxy boxes to the bounding boxes of their mapped corners, without clipping."""
    points = transform(corners(boxes.astype(np.float64)), matrix)
    return np.concatenate((points.min(1), points.max(1)), 1).astype(np.float32)


def clip_boxes(boxes: Array, size: tuple[int, int]) -> Boxes:
    """Clip (N, 4) xyxy boxes to a (height, width) image."""
    limit = np.array([size[1], size[0], size[1], size[0]], np.float32)
    return np.clip(boxes, 0, limit).astype(np.float32)


def polygon_boxes(polygons: Sequence[Array], size: tuple[int, int]) -> Boxes:
    """Return the (N, 4) xyxy bounding boxes of the parts of polygons inside a (height, width) image; zeros for one outside.

    Each edge is clipped on its own (Liang and Barsky, 1984), which is exact without intermediate points. A polygon that contains the
    whole image has no edge in it and gets the image's box.
    """
    out = np.zeros((len(polygons), 4), np.float32)
    if not polygons:
        return out
    counts = np.array([len(p) for p in polygons])
    start = np.concatenate(polygons).astype(np.float64)
    delta = np.concatenate([np.roll(p, -1, 0) for p in polygons]).astype(np.float64) - start
    first, last = _inside(start, delta, size)
    ends = np.stack((start + first[:, None] * delta, start + last[:, None] * delta), 1)  # (points, 2 ends, xy)
    visible = first <= last
    owner = np.repeat(np.arange(len(polygons)), counts)
    low, high = np.full((len(polygons), 2), np.inf), np.full((len(polygons), 2), -np.inf)
    np.minimum.at(low, owner[visible], ends[visible].min(1))
    np.maximum.at(high, owner[visible], ends[visible].max(1))
    some = np.isfinite(low[:, 0])
    out[some] = clip_boxes(np.concatenate((low[some], high[some]), 1), size)
    for i in np.flatnonzero(~some).tolist():
        if cv2.pointPolygonTest(polygons[i].astype(np.float32), (size[1] / 2, size[0] / 2), measureDist=False) > 0:
            out[i, 2:] = size[1], size[0]
    return out


def clip_polygon(polygon: Array, size: tuple[int, int]) -> NDArray[np.float32]:
    """Clip a (m, 2) polygon to a (height, width) image (Sutherland and Hodgman, 1974); may come back empty."""
    out = np.asarray(polygon, np.float64)
    for axis, bound, sign in ((0, 0, 1), (0, size[1], -1), (1, 0, 1), (1, size[0], -1)):
        if not len(out):
            break
        depth = (out[:, axis] - bound) * sign  # >= 0 inside
        following, next_depth = np.roll(out, -1, 0), np.roll(depth, -1)
        crosses = (depth >= 0) != (next_depth >= 0)
        share = depth / np.where(crosses, depth - next_depth, 1)
        pairs = np.stack((out, out + share[:, None] * (following - out)), 1)
        out = pairs[np.stack((depth >= 0, crosses), 1)]
    return out.astype(np.float32)


def _inside(start: Matrix, delta: Matrix, size: tuple[int, int]) -> tuple[Matrix, Matrix]:
    """Return for each segment the fractions (first, last) of its length between which it is in the image; first > last if never."""
    limit = np.array([size[1], size[0]], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = -start / delta, (limit - start) / delta
    still = delta == 0
    beside = still & ((start < 0) | (start > limit))
    first = np.where(still, np.where(beside, np.inf, -np.inf), np.minimum(a, b)).max(1)
    last = np.where(still, np.where(beside, -np.inf, np.inf), np.maximum(a, b)).min(1)
    return np.clip(first, 0, np.inf).clip(max=2), np.clip(last, -1, 1)


def candidates(before: Array, after: Array, *, min_share: float | Array = 0.1) -> NDArray[np.bool_]:
    """Return which (N, 4) xyxy boxes are kept after a warp.

    They have more than 2 pixels both ways, more than `min_share` of the area before, and an aspect ratio below 100.
    """
    w0, h0 = before[:, 2] - before[:, 0], before[:, 3] - before[:, 1]
    w, h = after[:, 2] - after[:, 0], after[:, 3] - after[:, 1]
    tiny = 1e-16
    ratio = np.maximum(w / (h + tiny), h / (w + tiny))
    return (w > 2) & (h > 2) & (w * h / (w0 * h0 + tiny) > min_share) & (ratio < 100)


def overlap_share(box: Array, boxes: Array) -> Matrix:
    """Return the fraction of each of (N, 4) xyxy boxes that a (4,) box covers."""
    return intersection(box, boxes) / (area(boxes) + 1e-16)
