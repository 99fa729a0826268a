"""The augmentation of a training sample: what is drawn, and what the draw makes of images and labels."""

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
    Image,
    Objects,
    Paste,
    Tile,
    gather,
    mosaic_tiles,
    paste_mirrored,
    project,
    render,
    single_tile,
    visible,
)
from utils.data.index import Index

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class SceneDraw:
    """What was drawn for one scene.

    Attributes:
        indices: images of the data set: four make a mosaic, one is letterboxed.
        centre: (x, y) of the mosaic's canvas where the four touch.
        copies: objects to paste mirrored, counted through the labels of the four, in the order they are tried.
    """

    indices: tuple[int, ...]
    warp: geo.Warp
    centre: tuple[int, int] = (0, 0)
    copies: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class SampleDraw:
    """What was drawn for a sample: one scene, or two that are blended with the first one's share `blend`; colour gains."""

    scenes: tuple[SceneDraw, ...]
    blend: float
    gains: Gains


class Scene:
    """A drawn scene, laid out for an output of (height, width) pixels."""

    def __init__(self, draw: SceneDraw, size: Size, index: Index) -> None:
        sizes = [(int(index.sizes[i][0]), int(index.sizes[i][1])) for i in draw.indices]
        self.size = size
        self.canvas: Size
        self.tiles: tuple[Tile, ...]
        if len(draw.indices) == 4:
            self.canvas = 2 * size[0], 2 * size[1]
            self.tiles = mosaic_tiles(draw.indices, sizes, draw.centre, size[0])
        else:
            self.canvas = size
            self.tiles = single_tile(draw.indices[0], sizes[0], size)
        self.scale = draw.warp.scale
        self.matrix = geo.warp_matrix(draw.warp, self.canvas, size)
        labels, segments = [index.labels(i) for i in draw.indices], [index.segments(i) for i in draw.indices]
        self.objects: Objects = gather(self.tiles, labels, segments, self.canvas)
        self.pastes: tuple[Paste, ...] = ()
        if draw.copies:
            self.objects, self.pastes = paste_mirrored(self.objects, draw.copies, self.canvas[1])

    def needs(self) -> list[int]:
        """Return the images of the data set of which something shows."""
        return visible(self.tiles, self.pastes, self.canvas, self.matrix, self.size)

    def image(self, images: Mapping[int, Image]) -> Image:
        """Draw the scene, (height, width, 3) BGR."""
        return render(images, self.tiles, self.pastes, self.canvas, self.matrix, self.size)

    def labels(self, without: Sequence[int] = ()) -> NDArray[np.float32]:
        """Return (n, 5) class and xyxy in pixels; none of the images `without`."""
        objects = self.objects
        if without:
            hidden = np.array([tile.index in without for tile in self.tiles])[objects.tiles]
            rows = np.flatnonzero(~hidden)
            objects = Objects(objects.classes[rows], objects.boxes[rows], [objects.polygons[i] for i in rows.tolist()], objects.tiles[rows])
        return project(objects, self.matrix, self.size, scale=self.scale)


def draw_sample(
    rng: np.random.Generator, hyp: Hyp, index: int, pool: Sequence[int], size: Size, objects: Callable[[int], int], *, mosaic: bool = True
) -> SampleDraw:
    """Draw all that is random about the sample of one image.

    Args:
        pool: images of the data set that may share a mosaic with it, or be blended with it.
        size: (height, width) of the output; square where there are mosaics.
        objects: number of labels of an image.
        mosaic: whether mosaics are allowed at all.
    """
    gains = draw_gains(rng, hyp)
    if not mosaic or rng.random() >= hyp.mosaic:
        return SampleDraw((SceneDraw((index,), geo.draw_warp(rng, hyp)),), 1.0, gains)
    scenes = [_draw_mosaic(rng, hyp, index, pool, size[0], objects)]
    blend = 1.0
    if rng.random() < hyp.mixup:
        blend = float(rng.beta(32, 32))
        scenes.append(_draw_mosaic(rng, hyp, pool[int(rng.integers(len(pool)))], pool, size[0], objects))
    return SampleDraw(tuple(scenes), blend, gains)


def _draw_mosaic(
    rng: np.random.Generator, hyp: Hyp, index: int, pool: Sequence[int], side: int, objects: Callable[[int], int]
) -> SceneDraw:
    others = [pool[i] for i in rng.integers(len(pool), size=3).tolist()]
    indices = tuple(int(i) for i in rng.permutation([index, *others]))
    x, y = rng.uniform(side / 2, 3 * side / 2, 2)
    warp = geo.draw_warp(rng, hyp)
    copies: tuple[int, ...] = ()
    if hyp.copy_paste:
        count = sum(objects(i) for i in indices)
        copies = tuple(int(i) for i in rng.permutation(count)[: round(hyp.copy_paste * count)])
    return SceneDraw(indices, warp, (int(x), int(y)), copies)


def compose(draw: SampleDraw, index: Index, read: Callable[[int], Image | None], out: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Make the sample that was drawn.

    Args:
        read: gives an image (H, W, 3) BGR at any resolution, or None where it cannot be read: grey then, without its labels.
        out: (3, height, width), takes the image as RGB.

    Returns:
        (n, 5) class and normalised cxcywh.
    """
    size = out.shape[1], out.shape[2]
    scenes = [Scene(scene, size, index) for scene in draw.scenes]
    images: dict[int, Image] = {}
    missing: list[int] = []
    for i in sorted({i for scene in scenes for i in scene.needs()}):
        image = read(i)
        if image is None:
            missing.append(i)
            image = np.full((8, 8, 3), 114, np.uint8)
        images[i] = image
    picture = scenes[0].image(images)
    if len(scenes) == 2:
        picture = cv2.addWeighted(picture, draw.blend, scenes[1].image(images), 1 - draw.blend, 0)  # type: ignore[assignment]
    labels = np.concatenate([scene.labels(missing) for scene in scenes])
    jitter(picture, draw.gains, out)
    return normalise(labels, size)


def normalise(labels: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """Turn (n, 5) class and xyxy in pixels of a (height, width) image into class and cxcywh in 0..1."""
    scale = np.array([size[1], size[0]], np.float32)
    low, high = labels[:, 1:3] / scale, labels[:, 3:5] / scale
    return np.concatenate((labels[:, :1], (low + high) / 2, high - low), 1, dtype=np.float32)
