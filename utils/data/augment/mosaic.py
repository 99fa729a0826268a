"""A scene of tiles on a canvas, seen through a warp: mosaics of four, single letterboxed images, pasted objects.

The canvas is never painted. Each tile's own placement and the warp make one matrix, and each tile is drawn once, straight
into the rectangle of the output where it shows. What the output would show of the canvas is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.data.augment import geometry as geo
from utils.images.letterbox import GREY, fit, longest_side

Image = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """An image's place on the canvas, in pixels; what sticks out of the canvas does not show.

    Attributes:
        index: of the image in the data set.
        left, top: corner, may be negative.
        size: (height, width) the whole image is scaled to.
    """

    index: int
    left: int
    top: int
    size: tuple[int, int]

    def matrix(self, source: tuple[int, int]) -> geo.Matrix:
        """Return the 3 x 3 matrix from an image of (height, width) `source` to the canvas."""
        return geo.translation(self.left, self.top) @ geo.stretch(source, self.size)

    def outline(self, canvas: tuple[int, int]) -> geo.Boxes:
        """Return the (1, 4) xyxy rectangle of the canvas that the tile fills."""
        box = [self.left, self.top, self.left + self.size[1], self.top + self.size[0]]
        return geo.clip_boxes(np.array([box], np.float32), canvas)


@dataclasses.dataclass(frozen=True, slots=True)
class Paste:
    """An object drawn a second time, mirrored left to right on the canvas.

    Attributes:
        tile: position of its tile in the scene.
        polygon: (m, 2) outline on the canvas before it is mirrored, in pixels.
    """

    tile: int
    polygon: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Objects:
    """What is to be found in a scene, parallel rows.

    Attributes:
        classes: (N,) float32.
        boxes: (N, 4) xyxy in pixels.
        polygons: N outlines (m, 2) in pixels; an empty one where only the box is known.
        tiles: (N,) position of each object's tile in the scene.
    """

    classes: NDArray[np.float32]
    boxes: geo.Boxes
    polygons: geo.Polygons
    tiles: NDArray[np.int64]


def mosaic_tiles(indices: Sequence[int], sizes: Sequence[tuple[int, int]], centre: tuple[int, int], side: int) -> tuple[Tile, ...]:
    """Place four images round a point of a canvas of twice `side`: above left, above right, below left, below right.

    Args:
        indices: four images of the data set.
        sizes: their (height, width).
        centre: (x, y) where the four touch.
    """
    tiles = []
    for place, (index, source) in enumerate(zip(indices, sizes, strict=True)):
        height, width = longest_side(source, side)
        left = centre[0] - width if place % 2 == 0 else centre[0]
        top = centre[1] - height if place < 2 else centre[1]
        tiles.append(Tile(index, left, top, (height, width)))
    return tuple(tiles)


def single_tile(index: int, source: tuple[int, int], canvas: tuple[int, int]) -> tuple[Tile, ...]:
    """Letterbox one (height, width) image on the canvas."""
    box = fit(source, canvas, size=longest_side(source, max(canvas)))
    return (Tile(index, box.left, box.top, box.size),)


def gather(
    tiles: Sequence[Tile], labels: Sequence[NDArray[np.float32]], segments: Sequence[geo.Polygons], canvas: tuple[int, int]
) -> Objects:
    """Bring the labels of the tiles' images onto the canvas.

    Args:
        labels: a tile's (k, 5) class and normalised cxcywh.
        segments: a tile's k normalised polygons, or none at all.
    """
    classes, boxes, polygons, owners = [], [], [], []
    for position, (tile, rows, outlines) in enumerate(zip(tiles, labels, segments, strict=True)):
        scale = np.array([tile.size[1], tile.size[0]], np.float32)
        corner = np.array([tile.left, tile.top], np.float32)
        centre, half = rows[:, 1:3] * scale + corner, rows[:, 3:5] * scale / 2
        classes.append(rows[:, 0])
        boxes.append(geo.clip_boxes(np.concatenate((centre - half, centre + half), 1), canvas))
        placed = [(p * scale + corner).astype(np.float32) for p in outlines] or [np.zeros((0, 2), np.float32)] * len(rows)
        polygons += [_on_canvas(p, canvas) for p in placed]
        owners.append(np.full(len(rows), position))
    return Objects(np.concatenate(classes), np.concatenate(boxes), polygons, np.concatenate(owners))


def _on_canvas(polygon: NDArray[np.float32], canvas: tuple[int, int]) -> NDArray[np.float32]:
    if not len(polygon) or (polygon.min() >= 0 and (polygon.max(0) <= canvas[::-1]).all()):
        return polygon
    return geo.clip_polygon(polygon, canvas)


def paste_mirrored(objects: Objects, order: Sequence[int], width: int) -> tuple[Objects, tuple[Paste, ...]]:
    """Add mirrored copies of objects that have outlines (Ghiasi et al., CVPR 2021, simple copy-paste).

    Args:
        order: the objects to copy, in the order they are tried; one that would cover 30 % of any other is left out.
        width: of the canvas they are mirrored on.
    """
    boxes, taken, pastes = objects.boxes, [], []
    for i in order:
        if len(objects.polygons[i]) < 3:
            continue
        left, top, right, bottom = objects.boxes[i]
        box = np.array([width - right, top, width - left, bottom], np.float32)
        if (geo.overlap_share(box, boxes) < 0.30).all():
            boxes = np.concatenate((boxes, box[None]))
            taken.append(i)
            pastes.append(Paste(int(objects.tiles[i]), objects.polygons[i]))
    mirrored = [p.polygon * np.array([-1, 1], np.float32) + np.array([width, 0], np.float32) for p in pastes]
    classes, tiles = objects.classes[taken], objects.tiles[taken]
    added = Objects(
        np.concatenate((objects.classes, classes)), boxes, [*objects.polygons, *mirrored], np.concatenate((objects.tiles, tiles))
    )
    return added, tuple(pastes)


def project(objects: Objects, matrix: geo.Matrix, size: tuple[int, int], *, scale: float = 1.0) -> NDArray[np.float32]:
    """Take objects through a warp to a (height, width) output and drop what is not worth learning there.

    Args:
        scale: of the warp: the area an object had is compared with what is left of it.

    Returns:
        (n, 5) class and xyxy in pixels, clipped to the output.
    """
    boxes = geo.clip_boxes(geo.transform_boxes(objects.boxes, matrix), size)
    outlined = np.array([len(p) > 0 for p in objects.polygons], bool)
    if outlined.any():
        seen = [geo.transform(p, matrix) for p in objects.polygons if len(p)]
        boxes[outlined] = geo.polygon_boxes(seen, size)
    keep = geo.candidates(objects.boxes * scale, boxes, least_share=np.where(outlined, 0.01, 0.10))
    return np.concatenate((objects.classes[:, None], boxes), 1, dtype=np.float32)[keep]


def visible(
    tiles: Sequence[Tile], pastes: Sequence[Paste], canvas: tuple[int, int], matrix: geo.Matrix, size: tuple[int, int]
) -> list[int]:
    """Return the images of the data set of which the output may show something."""
    shown = [tile.index for tile in tiles if _window(geo.transform(geo.corners(tile.outline(canvas))[0], matrix), size)]
    return sorted({*shown, *(tiles[paste.tile].index for paste in pastes)})


def render(
    images: Mapping[int, Image],
    tiles: Sequence[Tile],
    pastes: Sequence[Paste],
    canvas: tuple[int, int],
    matrix: geo.Matrix,
    size: tuple[int, int],
) -> Image:
    """Draw what a (height, width) output sees of the canvas.

    Args:
        images: at least those that `visible` names, (H, W, 3) at any resolution.
        matrix: from the canvas to the output.

    Returns:
        (height, width, 3) uint8; grey where no tile lies.
    """
    out = np.full((*size, 3), GREY, np.uint8)
    for tile in tiles:
        outline = geo.transform(geo.corners(tile.outline(canvas))[0], matrix)
        if tile.index in images:
            image = images[tile.index]
            _draw(out, image, matrix @ tile.matrix(image.shape[:2]), outline, masked=not geo.is_upright(matrix))
    mirror = np.array([[-1.0, 0, canvas[1]], [0, 1, 0], [0, 0, 1]])
    for paste in pastes:
        tile, there = tiles[paste.tile], matrix @ mirror
        image = images[tile.index]
        _draw(out, image, there @ tile.matrix(image.shape[:2]), geo.transform(paste.polygon, there), masked=True)
    return out


def _window(outline: geo.Array, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the pixels (left, top, right, bottom) of the output whose centres the outline's box holds, or None."""
    low, high = np.ceil(outline.min(0) - 0.5), np.ceil(outline.max(0) - 0.5)
    left, top = int(max(low[0], 0)), int(max(low[1], 0))
    right, bottom = int(min(high[0], size[1])), int(min(high[1], size[0]))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _draw(out: Image, image: Image, matrix: geo.Matrix, outline: geo.Array, *, masked: bool) -> None:
    """Warp an image into `out` inside an outline; without `masked` the outline is an upright rectangle."""
    window = _window(outline, out.shape[:2])
    if window is None:
        return
    left, top, right, bottom = window
    shape = (right - left, bottom - top)
    local = geo.centred(geo.translation(-left, -top) @ matrix)
    target = out[top:bottom, left:right]
    drawn = np.empty_like(target) if masked else target
    if local[2, 0] == 0 and local[2, 1] == 0:
        cv2.warpAffine(image, local[:2], shape, dst=drawn, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    else:
        cv2.warpPerspective(image, local, shape, dst=drawn, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if masked:
        mask = np.zeros(shape[::-1], np.uint8)
        points = np.round((outline - (left + 0.5, top + 0.5)) * 16).astype(np.int32)
        cv2.fillPoly(mask, [points], 1, shift=4)
        cv2.copyTo(drawn, mask, dst=target)
