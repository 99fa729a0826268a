"""The sheets of detect.py --attention: per image the chosen detection, its LayerCAM, and the maps of the attention blocks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utils.errors import UserError
from utils.explain.cam import energy_inside
from utils.explain.rendering import ExplainedImage, Image
from utils.images.drawing import draw_text
from utils.images.writing import write_image
from utils.log import LOG, printable

if TYPE_CHECKING:
    from models.detector import Detector
    from utils.inference.frame import Frame
    from utils.inference.results import Results

CELL = 400
"""Longest side of a sheet's tiles."""
TEXT, BAR, GAP = 14, 38, 4
"""Font size, height of the two lines above each tile, and space between tiles, in pixels."""


class Tile(NamedTuple):
    """An image of a sheet and the two lines above it."""

    title: str
    note: str
    image: Image


class AttentionSheets:
    """Writes ``attention/{key}.jpg`` for each image, and for the first frame with detections of each video or stream."""

    def __init__(self, folder: Path, model: Detector, shape: tuple[int, int], nth: int) -> None:
        """Explain the `nth` most confident detection, from 1, of images fitted into a (height, width) `shape`."""
        self.folder, self.model, self.shape, self.nth = folder / "attention", model, shape, nth
        self._done: set[str] = set()

    def add(self, frame: Frame, results: Results) -> None:
        """Write the sheet of a frame, unless its video has one already.

        Raises:
            UserError: the file cannot be written.
        """
        if frame.key in self._done or (frame.number and not len(results)):
            return
        self._done.add(frame.key)
        if len(results) < self.nth:
            LOG.info("%s: %d detections, none has number %d", frame.title, len(results), self.nth)
        path = self.folder / f"{frame.key}.jpg"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent}: cannot be written ({error.strerror or error})") from error
        write_image(path, sheet(explain(self.model, results, self.shape, self.nth - 1)))


def explain(model: Detector, results: Results, shape: tuple[int, int], index: int = 0) -> list[Tile]:
    """The tiles that explain a detection.

    Args:
        model: that found `results`.
        results: of one image.
        shape: (height, width) of the rectangle the image is fitted into; multiples of the stride.
        index: of the detection. If there is none, the blocks' maps are averages over all queries.

    Returns:
        The image with the detection, LayerCAM, and a map of each attention block, all of one size.
    """
    image = ExplainedImage(model, results.image, shape, CELL)
    xyxy = results.xyxy[index] if index < len(results) else None
    blocks = [Tile(label, f"{m.min():.3g} to {m.max():.3g}", image.draw_attention(m)) for label, m in image.attention_maps(xyxy)]
    if xyxy is None:
        return [Tile("no detection", "", image.picture), *blocks]
    cls = int(results.cls[index])
    cam = image.layer_cam(xyxy, cls)
    inside = f"{energy_inside(cam, image.to_network(xyxy[None])):.0%} inside the box" if cam.any() else "no positive evidence"
    label = f"{printable(results.name(cls))} {results.conf[index]:.2f}"
    tiles = [Tile(label, "", image.picture), Tile("LayerCAM", inside, image.draw_cam(cam)), *blocks]
    return [tile._replace(image=image.framed(tile.image, xyxy, cls)) for tile in tiles]


def sheet(tiles: list[Tile]) -> Image:
    """Arrange tiles of one size in rows, as close to 3:2 as possible, each below its two lines."""
    height, width = tiles[0].image.shape[:2]
    columns = min(max(round(math.sqrt(len(tiles) * 1.5 * (height + BAR) / width)), 1), len(tiles))
    rows = math.ceil(len(tiles) / columns)
    out = np.full((rows * (height + BAR + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for number, (title, note, image) in enumerate(tiles):
        top, left = number // columns * (height + BAR + GAP) + GAP, number % columns * (width + GAP) + GAP
        out[top + BAR : top + BAR + height, left : left + image.shape[1]] = image
        head = out[top : top + BAR, left : left + width]
        draw_text(head, title, 0, 0, (0, 0, 0), TEXT)
        draw_text(head, note, 0, BAR // 2, (110, 110, 110), TEXT)
    return out
