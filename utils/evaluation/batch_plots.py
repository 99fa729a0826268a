"""Images of batches with their targets or detections drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.images.drawing import Image, draw_boxes, draw_text, text_mask
from utils.images.writing import write_image

if TYPE_CHECKING:
    from utils.data.loading.loader import Batch

MAX_IMAGES = 16
MAX_SIDE = 1920
"""Of the image of a batch, in pixels."""
SHOWN_CONF = 0.25
"""Detections below are not drawn."""

_GAP = 4
_CAPTION = 13


def plot_batch(path: Path, batch: Batch, names: Mapping[int, str], detections: Sequence[NDArray[np.float32]] | None = None) -> None:
    """Draw up to 16 images of a batch with their targets, or with `detections`.

    Args:
        path: the image to write.
        batch: images and targets.
        names: class names by class id.
        detections: for each image (k, 6) xyxy in pixels of the original image, confidence, class id; the batch has letterboxes then.
    """
    tiles = batch.images[:MAX_IMAGES].cpu().numpy().transpose(0, 2, 3, 1)[..., ::-1]
    targets = batch.targets.cpu().numpy()
    scale = min(MAX_SIDE / (math.ceil(math.sqrt(len(tiles))) * max(tiles.shape[1:3])), 1.0)
    drawn = []
    for i, tile in enumerate(tiles):
        if detections is None:
            own = targets[targets[:, 0] == i]
            size = np.array([tile.shape[1], tile.shape[0]], np.float32)
            centre, half, classes = own[:, 2:4] * size, own[:, 4:6] * size / 2, own[:, 1].astype(np.int64)
            boxes, labels = np.concatenate((centre - half, centre + half), 1), [_name(names, c) for c in classes.tolist()]
        else:
            assert batch.letterboxes is not None
            found = detections[i][detections[i][:, 4] > SHOWN_CONF][::-1]
            boxes, classes = batch.letterboxes[i].from_source(found[:, :4]), found[:, 5].astype(np.int64)
            labels = [f"{_name(names, c)} {p:.1f}" for c, p in zip(classes.tolist(), found[:, 4].tolist(), strict=True)]
        shown = (max(round(tile.shape[1] * scale), 1), max(round(tile.shape[0] * scale), 1))
        small = np.asarray(cv2.resize(np.ascontiguousarray(tile), shown, interpolation=cv2.INTER_AREA), np.uint8)
        drawn.append(_captioned(draw_boxes(small, boxes * np.float32(scale), labels, classes, line_width=2), Path(batch.paths[i]).name))
    write_image(path, grid(drawn))


def _name(names: Mapping[int, str], cls: int) -> str:
    return names.get(cls, str(cls))


def _captioned(tile: Image, text: str) -> Image:
    """Write the file name into a darkened corner, shortened in the middle when it is too long."""
    room = tile.shape[1] - 6
    while len(text) > 8 and text_mask(text, _CAPTION).shape[1] > room:
        half = len(text) // 2 - 1
        text = f"{text[: half - 1]}…{text[-half + 1 :]}"
    high, wide = text_mask(text, _CAPTION).shape
    corner = tile[:high, : wide + 6]
    corner[:] = corner // 3
    draw_text(tile, text, 3, 0, (255, 255, 255), _CAPTION)
    return tile


def grid(tiles: Sequence[Image]) -> Image:
    """Arrange tiles of one size on white, as square as possible."""
    high, wide = tiles[0].shape[:2]
    columns, rows = min(
        ((c, math.ceil(len(tiles) / c)) for c in range(1, len(tiles) + 1)),
        key=lambda s: 2 * (s[0] * s[1] / len(tiles) - 1) + abs(math.log(s[0] * wide / (s[1] * high))),  # few gaps, and nearly square
    )
    out = np.full((rows * (high + _GAP) - _GAP, columns * (wide + _GAP) - _GAP, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (high + _GAP), i % columns * (wide + _GAP)
        out[y : y + high, x : x + wide] = tile
    return out
