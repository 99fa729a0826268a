"""The outlines of objects in a COCO JSON: polygons, and masks as run lengths (RLE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.data.labels.coco_ids import read_number
from utils.data.labels.label_report import NO_POLYGON

_MAX_SIDE = 65536


def outline(segmentation: Any, scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return an object's polygon as (m, 2) points divided by the (width, height) `scale`; no points for a mask (RLE) or an invalid polygon.

    Several parts become one outline that returns to the first point after each of them: the connecting lines overlap, so filling
    it fills the parts only.
    """
    points = _parts(segmentation)
    if not points:
        return NO_POLYGON
    joined = points[0] if len(points) == 1 else np.concatenate([q for p in points for q in (p, p[:1], points[0][:1])])
    return np.clip(joined / scale, 0, 1).astype(np.float32)


def _parts(segmentation: Any) -> list[NDArray[np.float64]]:
    """Return the (m, 2) points of each part of a polygon; none of a mask (RLE)."""
    lists = [part for part in segmentation if isinstance(part, list)] if isinstance(segmentation, list) else []
    if not lists and isinstance(segmentation, list):
        lists = [segmentation]  # one part without the list around it
    numbers = [[read_number(value) for value in part] for part in lists if len(part) >= 6 and len(part) % 2 == 0]
    return [np.array(part, np.float64).reshape(-1, 2) for part in numbers if None not in part]


def outline_box(segmentation: Any) -> list[float]:
    """Return x, y, width, height of a polygon or a mask; nothing of anything else."""
    if isinstance(segmentation, dict):
        return _mask_box(segmentation)
    parts = _parts(segmentation)
    if not parts:
        return []
    points = np.concatenate(parts)
    return [*points.min(0).tolist(), *(points.max(0) - points.min(0)).tolist()]


def _mask_box(rle: Mapping[str, Any]) -> list[float]:
    """Return the box of a mask: lengths of runs of 0 and 1 in turn, down one column after the other."""
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or len(size) != 2 or any(type(side) is not int or not 0 < side <= _MAX_SIDE for side in size):
        return []
    height, width = size
    lengths = counts if isinstance(counts, list) else _run_lengths(counts) if isinstance(counts, str) else []
    if any(type(run) is not int or not 0 <= run <= height * width for run in lengths) or sum(lengths) != height * width:
        return []
    runs = np.array(lengths, np.int64)
    ends = runs.cumsum()[1::2][runs[1::2] > 0]
    starts = ends - runs[1::2][runs[1::2] > 0]
    if not len(ends):
        return []
    (left, top), (right, bottom) = np.divmod(starts, height), np.divmod(ends - 1, height)
    whole = left < right  # a run over several columns reaches from top to bottom
    y0, y1 = np.where(whole, 0, top).min(), np.where(whole, height - 1, bottom).max()
    return [float(left.min()), float(y0), float(right.max() - left.min() + 1), float(y1 - y0 + 1)]


def _run_lengths(text: str) -> list[int]:
    """Decode COCO's string of run lengths: five bits a character from "0" on, the sixth says that more follow, the lowest bits first.

    From the fourth run on, the difference from the run before the last one is written. Numbers are signed.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            return []
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (code & 16) << (shift - 4)  # the sign
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return [] if shift else runs
