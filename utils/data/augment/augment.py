"""The augmentation of a training sample: its random parameters, and applying them to images and annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.config import Hyp
from utils.data.augment import geometry as geo
from utils.data.augment.colour import Gains, draw_gains, jitter
from utils.data.augment.mosaic import (
    CanvasObjects,
    Image,
    Paste,
    gather,
    paste_mirrored,
    place_mosaic,
    place_single,
    project,
    render,
    visible,
)
from utils.data.index import Index

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class CanvasParams:
    """The random parameters of one canvas.

    Attributes:
        indices: images of the dataset: four make a mosaic, one is letterboxed.
        centre: (x, y) of the canvas where the four images meet.
        copies: objects to paste mirrored, numbered through the annotations of the four, in the order they are tried.
    """

    indices: tuple[int, ...]
    warp: geo.Warp
    centre: tuple[int, int] = (0, 0)
    copies: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class SampleParams:
    """The random parameters of a sample: one canvas, or two mixed with weight `blend` of the first; colour gains."""

    canvases: tuple[CanvasParams, ...]
    blend: float
    gains: Gains


class Canvas:
    """One or four placed images, and the warp to an output of (height, width) pixels."""

    def __init__(self, params: CanvasParams, size: Size, index: Index) -> None:
        sizes = [(int(index.sizes[i][0]), int(index.sizes[i][1])) for i in params.indices]
        self.size = self.canvas = size
        if len(params.indices) == 4:
            self.canvas = 2 * size[0], 2 * size[1]
            self.placements = place_mosaic(params.indices, sizes, params.centre, size[0])
        else:
            self.placements = place_single(params.indices[0], sizes[0], size)
        self.scale = params.warp.scale
        self.matrix = geo.warp_matrix(params.warp, self.canvas, size)
        annotations, polygons = [index.annotations_of(i) for i in params.indices], [index.polygons_of(i) for i in params.indices]
        self.objects = gather(self.placements, annotations, polygons, self.canvas)
        self.pastes: tuple[Paste, ...] = ()
        if params.copies:
            self.objects, self.pastes = paste_mirrored(self.objects, params.copies, self.canvas[1])

    def visible_images(self) -> list[int]:
        """Return the images of the dataset that the output may show."""
        return visible(self.placements, self.pastes, self.canvas, self.matrix, self.size)

    def image(self, images: Mapping[int, Image]) -> Image:
        """Render the output, (height, width, 3) BGR."""
        return render(images, self.placements, self.pastes, self.canvas, self.matrix, self.size)

    def annotations(self, without: Sequence[int] = ()) -> NDArray[np.float32]:
        """Return (n, 5) class and xyxy in pixels, except for those of the images `without`."""
        objects = self.objects
        if without:
            hidden = np.array([placement.index in without for placement in self.placements])[objects.owners]
            keep = np.flatnonzero(~hidden)
            polygons = [objects.polygons[i] for i in keep.tolist()]
            objects = CanvasObjects(objects.classes[keep], objects.boxes[keep], polygons, objects.owners[keep])
        return project(objects, self.matrix, self.size, scale=self.scale)


def draw_sample(
    rng: np.random.Generator, hyp: Hyp, index: int, pool: Sequence[int], size: Size, objects: Callable[[int], int], *, mosaic: bool = True
) -> SampleParams:
    """Draw the random parameters of the sample of one image.

    Args:
        pool: images of the dataset that may share a mosaic with it, or be mixed with it.
        size: (height, width) of the output; square where there are mosaics.
        objects: number of annotations of an image.
        mosaic: whether mosaics are allowed at all.
    """
    gains = draw_gains(rng, hyp)
    if not mosaic or rng.random() >= hyp.mosaic:
        return SampleParams((CanvasParams((index,), geo.draw_warp(rng, hyp)),), 1.0, gains)
    canvases = [_draw_mosaic(rng, hyp, index, pool, size[0], objects)]
    blend = 1.0
    if rng.random() < hyp.mixup:
        blend = float(rng.beta(32, 32))
        canvases.append(_draw_mosaic(rng, hyp, pool[int(rng.integers(len(pool)))], pool, size[0], objects))
    return SampleParams(tuple(canvases), blend, gains)


def _draw_mosaic(
    rng: np.random.Generator, hyp: Hyp, index: int, pool: Sequence[int], side: int, objects: Callable[[int], int]
) -> CanvasParams:
    others = [pool[i] for i in rng.integers(len(pool), size=3).tolist()]
    indices = tuple(int(i) for i in rng.permutation([index, *others]))
    x, y = rng.uniform(side / 2, 3 * side / 2, 2)
    warp = geo.draw_warp(rng, hyp)
    copies: tuple[int, ...] = ()
    if hyp.copy_paste:
        count = sum(objects(i) for i in indices)
        copies = tuple(int(i) for i in rng.permutation(count)[: round(hyp.copy_paste * count)])
    return CanvasParams(indices, warp, (int(x), int(y)), copies)


def compose(params: SampleParams, index: Index, read: Callable[[int], Image | None], out: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Make the sample of some parameters.

    Args:
        read: gives an image (H, W, 3) BGR at any resolution, or None where it cannot be read: grey then, without its annotations.
        out: (3, height, width), receives the image as RGB.

    Returns:
        (n, 5) class and normalised cxcywh.
    """
    size = out.shape[1], out.shape[2]
    canvases = [Canvas(canvas, size, index) for canvas in params.canvases]
    images: dict[int, Image] = {}
    missing: list[int] = []
    for i in sorted({i for canvas in canvases for i in canvas.visible_images()}):
        image = read(i)
        if image is None:
            missing.append(i)
            image = np.full((8, 8, 3), 114, np.uint8)
        images[i] = image
    mixed = canvases[0].image(images)
    if len(canvases) == 2:
        mixed = cv2.addWeighted(mixed, params.blend, canvases[1].image(images), 1 - params.blend, 0)  # type: ignore[assignment]
    annotations = np.concatenate([canvas.annotations(missing) for canvas in canvases])
    jitter(mixed, params.gains, out)
    scale = np.array([size[1], size[0]], np.float32)
    low, high = annotations[:, 1:3] / scale, annotations[:, 3:5] / scale
    return np.concatenate((annotations[:, :1], (low + high) / 2, high - low), 1, dtype=np.float32)
