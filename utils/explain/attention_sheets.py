"""The sheets of detect.py --attention: per image the chosen detection, its LayerCAM, and the maps of the attention blocks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.explain.cam import Chosen, Map, attention_maps, energy_inside, layer_cam
from utils.images import letterbox
from utils.images.drawing import draw_boxes, draw_text
from utils.images.writing import write_image
from utils.inference.predictor import to_tensor
from utils.log import LOG, printable

if TYPE_CHECKING:
    from models.detector import Detector
    from utils.inference.frame import Frame
    from utils.inference.results import Results

Image = NDArray[np.uint8]

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
    image = results.image
    box = letterbox.fit((image.shape[0], image.shape[1]), shape, stride=model.max_stride)
    fitted = letterbox.apply(image, box)
    pixels = to_tensor(fitted, next(model.parameters()).device)
    view = _View(box, fitted)
    if index >= len(results):
        return [Tile("no detection", "", view.image), *(view.tile(*shown) for shown in attention_maps(model, pixels))]
    xyxy = box.from_source(results.xyxy[index : index + 1])[0]
    cls = int(results.cls[index])
    label = f"{printable(results.name(cls))} {results.conf[index]:.2f}"
    cam = layer_cam(model, pixels, Chosen(xyxy.tolist(), cls))
    maps = attention_maps(model, pixels, (float(xyxy[0] + xyxy[2]) / 2, float(xyxy[1] + xyxy[3]) / 2))
    inside = f"{energy_inside(cam, xyxy):.0%} inside the box" if cam.any() else "no positive evidence"
    tiles = [Tile(label, "", view.image), Tile("LayerCAM", inside, view.glowing(cam)), *(view.tile(*shown) for shown in maps)]
    return [tile._replace(image=view.framed(tile.image, xyxy, cls)) for tile in tiles]


class _View:
    """The source image inside a letterboxed one, scaled to a tile."""

    def __init__(self, box: letterbox.Letterbox, fitted: Image) -> None:
        self._box = box
        self._scale = CELL / max(box.size)
        self.image = self._cut(fitted)

    def _cut(self, canvas: NDArray[np.generic]) -> Image:
        """Crop (H, W, ...) in letterboxed pixels to the source image, and scale it."""
        box = self._box
        part = canvas[box.top : box.top + box.size[0], box.left : box.left + box.size[1]]
        size = (max(round(box.size[1] * self._scale), 1), max(round(box.size[0] * self._scale), 1))
        way = cv2.INTER_AREA if self._scale < 1 else cv2.INTER_LINEAR
        return cv2.resize(np.ascontiguousarray(part), size, interpolation=way).astype(np.uint8)

    def tile(self, label: str, heat: Map) -> Tile:
        """The map of a block; the colours span its range, which the note gives."""
        return Tile(label, f"{heat.min():.3g} to {heat.max():.3g}", self.blended(heat))

    def _coloured(self, heat: Map) -> tuple[Image, Map]:
        """A map normalized to 0..1 and resized to the tile: its colours, and its values."""
        low, high = float(heat.min()), float(heat.max())
        level = (heat - low) / (high - low) if high > low else np.full_like(heat, 0.5)
        height, width = self._box.shape
        large = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR).clip(0, 1)
        cut = self._cut((large * 255).astype(np.uint8))
        return cv2.applyColorMap(cut, cv2.COLORMAP_TURBO).astype(np.uint8), np.divide(cut[..., None], 255, dtype=np.float32)

    def blended(self, heat: Map) -> Image:
        """Colours of a map over the grey image."""
        colours, _ = self._coloured(heat)
        return cv2.addWeighted(self._grey(), 0.45, colours, 0.55, 0).astype(np.uint8)

    def glowing(self, cam: Map) -> Image:
        """Colours where a map is high, the grey image where it is low."""
        colours, level = self._coloured(cam)
        share = 0.75 * np.sqrt(level)
        return (self._grey() * (1 - share) + colours * share).astype(np.uint8)

    def _grey(self) -> Image:
        return cv2.cvtColor(cv2.cvtColor(self.image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.uint8)

    def framed(self, image: Image, xyxy: NDArray[np.float32], cls: int) -> Image:
        """Draw the chosen box, in letterboxed pixels, on an image."""
        moved = (xyxy - np.array([self._box.left, self._box.top] * 2, np.float32)) * np.float32(self._scale)
        return draw_boxes(image, moved[None], [""], [cls], line_width=2)


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
