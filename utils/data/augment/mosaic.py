"""Images placed on a canvas and warped to an output: mosaics of four, single letterboxed images, pasted objects.

The canvas is never rendered. The placement of each image and the warp make one matrix, and each image is drawn once, directly into
the rectangle of the output where it is visible. The output is the same as that of a rendered canvas.
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
class Placement:
    """The place of an image on the canvas, in pixels; parts outside the canvas are not visible.

    Attributes:
        index: of the image in the dataset.
        left, top: corner, may be negative.
        size: (height, width) the whole image is scaled to.
    """

    index: int
    left: int
    top: int
    size: tuple[int, int]

    def matrix(self, source: tuple[int, int]) -> geo.Matrix:
        """Return the 3 x 3 matrix from an image of (height, width) `source` to the canvas."""
        return geo.translation(self.left, self.top) @ np.diag([self.size[1] / source[1], self.size[0] / source[0], 1.0])

    def outline(self, canvas: tuple[int, int]) -> geo.Boxes:
        """Return the (1, 4) xyxy rectangle of the canvas that the image covers."""
        box = [self.left, self.top, self.left + self.size[1], self.top + self.size[0]]
        return geo.clip_boxes(np.array([box], np.float32), canvas)


@dataclasses.dataclass(frozen=True, slots=True)
class Paste:
    """An object drawn a second time, mirrored left to right on the canvas.

    Attributes:
        owner: number of the placement that it belongs to.
        polygon: (m, 2) outline on the canvas before it is mirrored, in pixels.
    """

    owner: int
    polygon: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class CanvasObjects:
    """The annotations on a canvas, as parallel arrays.

    Attributes:
        classes: (N,) float32.
        boxes: (N, 4) xyxy in pixels.
        polygons: N outlines (m, 2) in pixels; an empty one where only the box is known.
        owners: (N,) number of the placement that each object belongs to.
    """

    classes: NDArray[np.float32]
    boxes: geo.Boxes
    polygons: geo.Polygons
    owners: NDArray[np.int64]


def place_mosaic(indices: Sequence[int], sizes: Sequence[tuple[int, int]], centre: tuple[int, int], side: int) -> tuple[Placement, ...]:
    """Place four images around a point of a canvas of twice `side`: above left, above right, below left, below right.

    Args:
        indices: four images of the dataset.
        sizes: their (height, width).
        centre: (x, y) where the four meet.
    """
    placements = []
    for place, (index, source) in enumerate(zip(indices, sizes, strict=True)):
        height, width = longest_side(source, side)
        left = centre[0] - width if place % 2 == 0 else centre[0]
        top = centre[1] - height if place < 2 else centre[1]
        placements.append(Placement(index, left, top, (height, width)))
    return tuple(placements)


def place_single(index: int, source: tuple[int, int], canvas: tuple[int, int]) -> tuple[Placement, ...]:
    """Letterbox one (height, width) image on the canvas."""
    box = fit(source, canvas, size=longest_side(source, max(canvas)))
    return (Placement(index, box.left, box.top, box.size),)


def gather(
    placements: Sequence[Placement], annotations: Sequence[NDArray[np.float32]], polygons: Sequence[geo.Polygons], canvas: tuple[int, int]
) -> CanvasObjects:
    """Map the annotations of the placed images to the canvas.

    Args:
        annotations: of each image, (k, 5) class and normalised cxcywh.
        polygons: of each image, k normalised polygons, or an empty list.
    """
    classes, boxes, placed, owners = [], [], [], []
    for owner, (placement, found, outlines) in enumerate(zip(placements, annotations, polygons, strict=True)):
        scale = np.array([placement.size[1], placement.size[0]], np.float32)
        corner = np.array([placement.left, placement.top], np.float32)
        centre, half = found[:, 1:3] * scale + corner, found[:, 3:5] * scale / 2
        classes.append(found[:, 0])
        boxes.append(geo.clip_boxes(np.concatenate((centre - half, centre + half), 1), canvas))
        mapped = [(p * scale + corner).astype(np.float32) for p in outlines] or [np.zeros((0, 2), np.float32)] * len(found)
        inside = [not len(p) or (p.min() >= 0 and (p.max(0) <= canvas[::-1]).all()) for p in mapped]
        placed += [p if whole else geo.clip_polygon(p, canvas) for p, whole in zip(mapped, inside, strict=True)]
        owners.append(np.full(len(found), owner))
    return CanvasObjects(np.concatenate(classes), np.concatenate(boxes), placed, np.concatenate(owners))


def paste_mirrored(objects: CanvasObjects, order: Sequence[int], width: int) -> tuple[CanvasObjects, tuple[Paste, ...]]:
    """Add mirrored copies of objects that have outlines (Ghiasi et al., CVPR 2021, simple copy-paste).

    Args:
        order: the objects to copy, in the order they are tried; one that would cover 30 % of another is skipped.
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
            pastes.append(Paste(int(objects.owners[i]), objects.polygons[i]))
    mirrored = [p.polygon * np.array([-1, 1], np.float32) + np.array([width, 0], np.float32) for p in pastes]
    classes, owners = objects.classes[taken], objects.owners[taken]
    added = CanvasObjects(
        np.concatenate((objects.classes, classes)), boxes, [*objects.polygons, *mirrored], np.concatenate((objects.owners, owners))
    )
    return added, tuple(pastes)


def project(objects: CanvasObjects, matrix: geo.Matrix, size: tuple[int, int], *, scale: float = 1.0) -> NDArray[np.float32]:
    """Map objects by a warp to a (height, width) output, without those too small there.

    Args:
        scale: of the warp, to compare the area of an object before and after it.

    Returns:
        (n, 5) class and xyxy in pixels, clipped to the output.
    """
    boxes = geo.clip_boxes(geo.transform_boxes(objects.boxes, matrix), size)
    outlined = np.array([len(p) > 0 for p in objects.polygons], bool)
    if outlined.any():
        seen = [geo.transform(p, matrix) for p in objects.polygons if len(p)]
        boxes[outlined] = geo.polygon_boxes(seen, size)
    keep = geo.candidates(objects.boxes * scale, boxes, min_share=np.where(outlined, 0.01, 0.10))
    return np.concatenate((objects.classes[:, None], boxes), 1, dtype=np.float32)[keep]


def visible(
    placements: Sequence[Placement], pastes: Sequence[Paste], canvas: tuple[int, int], matrix: geo.Matrix, size: tuple[int, int]
) -> list[int]:
    """Return the images of the dataset that the output may show."""
    shown = [p.index for p in placements if _window(geo.transform(geo.corners(p.outline(canvas))[0], matrix), size)]
    return sorted({*shown, *(placements[paste.owner].index for paste in pastes)})


def render(
    images: Mapping[int, Image],
    placements: Sequence[Placement],
    pastes: Sequence[Paste],
    canvas: tuple[int, int],
    matrix: geo.Matrix,
    size: tuple[int, int],
) -> Image:
    """Render a (height, width) output.

    Args:
        images: at least those of `visible`, (H, W, 3) at any resolution.
        matrix: from the canvas to the output.

    Returns:
        (height, width, 3) uint8; grey outside the images.
    """
    out = np.full((*size, 3), GREY, np.uint8)
    for placement in placements:
        outline = geo.transform(geo.corners(placement.outline(canvas))[0], matrix)
        if placement.index in images:
            image = images[placement.index]
            _draw(out, image, matrix @ placement.matrix(image.shape[:2]), outline, masked=not geo.is_upright(matrix))
    mirror = np.array([[-1.0, 0, canvas[1]], [0, 1, 0], [0, 0, 1]])
    for paste in pastes:
        placement, mirrored = placements[paste.owner], matrix @ mirror
        image = images[placement.index]
        _draw(out, image, mirrored @ placement.matrix(image.shape[:2]), geo.transform(paste.polygon, mirrored), masked=True)
    return out


def _window(outline: geo.Array, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the pixels (left, top, right, bottom) of the output whose centres lie in the outline's bounding box, or None."""
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
