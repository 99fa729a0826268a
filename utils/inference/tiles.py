"""Detection in overlapping tiles, for small objects in large images: ``detect.py --tile 640``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.geometry import area, intersection, iou
from utils.inference.predictor import Predictor
from utils.inference.results import Results

EDGE = 2
"""Pixels from the border of a tile within which a box counts as cut by it."""
INSIDE = 0.5
"""Fraction of a cut box that lies in a more complete one when both are the same object."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TiledPredictor:
    """A predictor that also looks at overlapping tiles of the image; without tiles where the image is no larger than one.

    The image as a whole gives the objects that are larger than a tile. Of the boxes of one class, one that a tile's border cuts off
    yields to a more complete one that holds at least half of it; then the more confident of two whose IoU exceeds the predictor's is kept.

    Attributes:
        predictor: detects in a tile, and in the whole image.
        tile: side of a tile in pixels of the image.
        overlap: minimum fraction of a tile that its neighbour covers too, 0..0.9. Objects smaller than this part lie whole in one tile.
    """

    predictor: Predictor
    tile: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.tile < 32:
            raise UserError(f"tile must be >= 32 pixels, got {self.tile}")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"overlap must be in 0..0.9, got {self.overlap}")

    def __call__(self, image: NDArray[np.uint8], path: Path) -> Results:
        """Detect in a (H, W, 3) uint8 BGR image."""
        whole = self.predictor(image, path)
        height, width = image.shape[:2]
        if max(height, width) <= self.tile:
            return whole
        found = [np.column_stack((whole.boxes, np.zeros(len(whole))))]
        speed = dict(whole.speed)
        for top in tile_starts(height, self.tile, self.overlap):
            for left in tile_starts(width, self.tile, self.overlap):
                part = image[top : top + self.tile, left : left + self.tile]
                results = self.predictor(part, path)
                found.append(_placed(results.boxes, left, top, part.shape[1], part.shape[0], width, height))
                speed = {name: ms + results.speed[name] for name, ms in speed.items()}
        boxes = merge_tiles(np.concatenate(found), self.predictor.iou, agnostic=self.predictor.agnostic)[: self.predictor.max_det]
        xyxy, conf, cls = boxes[:, :4].astype(np.float32), boxes[:, 4].astype(np.float32), boxes[:, 5].astype(np.int64)
        return Results(image, path, whole.names, xyxy, conf, cls, shape=whole.shape, speed=speed)


def tile_starts(side: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along `side`, evenly spaced: the first at 0, the last ends at the border, neighbours share `overlap` or more."""
    if side <= tile:
        return [0]
    count = int(np.ceil((side - tile) / max(int(tile * (1 - overlap)), 1))) + 1
    return np.linspace(0, side - tile, count).round().astype(int).tolist()


def _placed(boxes: NDArray[np.float32], left: int, top: int, w: int, h: int, width: int, height: int) -> NDArray[np.float64]:
    """(n, 6) boxes of a tile in pixels of the image, and in column 6 whether an inner border of the tile cuts them."""
    inner = np.array([left > 0, top > 0, left + w < width, top + h < height])
    reach = np.array([EDGE, EDGE, w - EDGE, h - EDGE])
    beyond = np.concatenate((boxes[:, :2] <= reach[:2], boxes[:, 2:4] >= reach[2:]), 1)
    shift = np.array([left, top, left, top, 0, 0])
    return np.column_stack((boxes + shift, (beyond & inner).any(1)))


def merge_tiles(boxes: NDArray[np.float64], threshold: float, *, agnostic: bool = False) -> NDArray[np.float64]:
    """Keep one box for each object.

    Args:
        boxes: (n, 7) xyxy, confidence, class, and 1 where the border of a tile cuts the box.
        threshold: IoU above which two boxes are the same object.
        agnostic: boxes of different classes are compared too.

    Returns:
        (m, 7) those that are kept, most confident first.
    """
    # The whole ones first, so that no fragment removes the box of its object; of fragments the largest is the most complete.
    order = np.lexsort((-boxes[:, 4], np.where(boxes[:, 6] > 0, -area(boxes[:, :4]), 0), boxes[:, 6]))
    boxes = boxes[order]
    kept: list[int] = []
    for i, box in enumerate(boxes):
        others = boxes[kept]
        others = others if agnostic else others[others[:, 5] == box[5]]
        same = iou(box[None, :4], others[:, :4]) > threshold
        if box[6]:
            same |= intersection(box[None, :4], others[:, :4]) >= INSIDE * area(box[:4])
        if not same.any():
            kept.append(i)
    chosen = boxes[kept]
    return chosen[np.argsort(-chosen[:, 4], kind="stable")]
