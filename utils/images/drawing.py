"""Draw boxes and text on an image."""

from __future__ import annotations

import colorsys
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.log import printable

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

SMALL = 320
"""Pixels of the shorter side below which lines are thinner, tags smaller, and tags wider than their box left out."""

_GOLDEN = 0.618034  # steps of the golden ratio never come close to an earlier hue
_SHADES = ((0.85, 0.95), (0.60, 1.00), (0.95, 0.70))  # saturation and value, changing every ten classes


def colour(index: int) -> Colour:
    """Return the BGR colour of class `index`: neighbours differ in hue, and later classes in shade too."""
    saturation, value = _SHADES[index // 10 % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb((0.58 + index * _GOLDEN) % 1, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def text_colour(background: Colour) -> Colour:
    """Return black or white, whichever has more contrast to `background` (luma of ITU-R BT.601)."""
    blue, green, red = background
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)


def default_width(image: Image) -> int:
    """Return a line width in pixels for the image's size."""
    return max(round(sum(image.shape[:2]) / 2 * 0.003), 2 if min(image.shape[:2]) >= SMALL else 1)


def draw_boxes(
    image: Image,
    boxes: NDArray[np.float32],
    labels: Sequence[str],
    classes: NDArray[np.int64] | Sequence[int],
    *,
    line_width: int | None = None,
) -> Image:
    """Draw boxes with labels on a copy of `image`, later ones on top.

    Args:
        image: (H, W, 3) uint8 BGR.
        boxes: (n, 4) xyxy in pixels.
        labels: a text for each box; ``""`` writes none. Text outside the image is moved inside.
        classes: for each box the class that gives its colour.
        line_width: in pixels, >= 1; the text grows with it. None takes `default_width`, which up to 3 pixels is the maximum
            in a small image too, where boxes and tags would bury the objects.
    """
    out = np.ascontiguousarray(image).copy()
    width, small = default_width(image) if line_width is None else max(line_width, 1), min(image.shape[:2]) < SMALL
    if small and width <= 3:
        width = default_width(image)
    for box, label, cls in zip(np.asarray(boxes, np.float64).round().astype(int).tolist(), labels, classes, strict=True):
        shade = colour(int(cls))
        cv2.rectangle(out, box[:2], box[2:], shade, width)  # without smoothing, along the pixels
        size = (4 if small else 6) + 4 * width
        if label and not (small and text_mask(label, size).shape[1] > box[2] - box[0]):
            _draw_label(out, label, box[0] - width // 2, box[1], shade, size)
    return out


def draw_text(image: Image, text: str, left: int, top: int, shade: Colour, size: int) -> None:
    """Draw `text` into `image`, its upper left corner at (left, top), clipped to the image."""
    mask = text_mask(text, size)
    height, width = image.shape[:2]
    top_cut, left_cut = max(-top, 0), max(-left, 0)
    mask = mask[top_cut : max(height - top, 0), left_cut : max(width - left, 0)]
    if not mask.size:
        return
    part = image[top + top_cut : top + top_cut + mask.shape[0], left + left_cut : left + left_cut + mask.shape[1]]
    alpha = mask[..., None].astype(np.float32) / 255
    part[:] = (part * (1 - alpha) + np.array(shade, np.float32) * alpha + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=2048)
def text_mask(text: str, size: int) -> Image:
    """Render one line of `text` in DejaVu Sans of `size` pixels: (h, w) uint8 coverage, h the same for every text.

    What is not printable is a question mark, and of more than 500 characters the rest is left out.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw

    font, text = _font(size), printable(text[:500])
    ascent, descent = font.getmetrics()
    left, _, right, _ = font.getbbox(text)
    canvas = Picture.new("L", (max(int(right - min(left, 0)) + 1, 1), ascent + descent), 0)
    ImageDraw.Draw(canvas).text((-min(left, 0), 0), text, 255, font=font)
    mask = np.array(canvas)
    mask.setflags(write=False)  # the cached array is shared
    return mask


@functools.lru_cache(maxsize=64)
def _font(size: int):  # type: ignore[no-untyped-def]
    """DejaVu Sans, from matplotlib: Latin, Greek, Cyrillic, Arabic, symbols."""
    from PIL import ImageFont

    package = importlib.util.find_spec("matplotlib")  # not imported, as it would read the user's matplotlibrc
    assert package
    assert package.origin
    return ImageFont.truetype(str(Path(package.origin).with_name("mpl-data") / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _draw_label(image: Image, text: str, left: int, bottom: int, shade: Colour, size: int) -> None:
    """Draw a filled tag with `text` above the box's upper edge, or below it when there is no room above."""
    mask, pad = text_mask(text, size), max(size // 6, 1)
    high, wide = mask.shape[0], mask.shape[1] + 2 * pad
    top = bottom - high if bottom >= high else bottom
    top = max(min(top, image.shape[0] - high), 0)
    left = max(min(left, image.shape[1] - wide), 0)
    cv2.rectangle(image, (left, top), (left + wide - 1, top + high - 1), shade, cv2.FILLED)
    draw_text(image, text, left + pad, top, text_colour(shade), size)
