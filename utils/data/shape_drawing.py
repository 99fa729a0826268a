"""Draw images of geometric shapes with exact bounding boxes, for the demo's dataset.

An image is a textured background with distractors (lines, letters) and shapes over it, which overlap and leave the frame.
All of it is a function of the random generator.
"""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) BGR."""
Points = NDArray[np.float64]
"""(n, 2) x, y."""

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
VISIBLE = 0.45
"""Minimum fraction of a shape's area that is visible."""
TYPICAL = 0.75
"""Fraction of shapes with the typical colour of their class."""
BACKGROUND = -1
"""The background in an owner map."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One shape: class, centre and radius in pixels, angle in radians, height to width, BGR colour, fill style."""

    kind: int
    x: float
    y: float
    radius: float
    angle: float
    squeeze: float
    colour: tuple[float, float, float]
    fill: str


def _turn(points: Points, angle: float) -> Points:
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def _arc(start: float, end: float, steps: int, radius: float = 1.0) -> Points:
    t = np.linspace(start, end, steps)
    return radius * np.stack((np.cos(t), np.sin(t)), 1)


def _cross() -> Points:
    a, b = 0.3, 0.95
    return np.array([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)])


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 49)[:-1]
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack((16 * np.sin(t) ** 3, -y - 2.5), 1) / 17


def _moon() -> Points:
    """The unit disc less a disc of radius 0.85 to its right; the two circles meet at the tips."""
    shift, bite = 0.55, 0.85
    tip = np.arccos((1 + shift**2 - bite**2) / (2 * shift))
    inner = np.arctan2(np.sin(tip), np.cos(tip) - shift)
    hollow = _arc(2 * np.pi - inner, inner, 25, bite) + np.array((shift, 0.0))
    return np.concatenate((_arc(tip, 2 * np.pi - tip, 33), hollow))


OUTLINES: dict[str, tuple[Points, ...]] = {
    "circle": (_arc(0, 2 * np.pi, 49)[:-1],),
    "square": (np.array([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),),
    "triangle": (_arc(-np.pi / 2, 1.5 * np.pi, 4)[:-1],),
    "star": (_arc(-np.pi / 2, 1.5 * np.pi, 11)[:-1] * np.tile((1.0, 0.42), 5)[:, None],),
    "cross": (_cross(),),
    "ring": (_arc(0, 2 * np.pi, 49)[:-1], _arc(0, 2 * np.pi, 41, 0.55)[:-1]),
    "heart": (_heart(),),
    "moon": (_moon(),),
}
"""Closed outlines within the unit circle; a second one is a hole."""


def _outlines(shape: Shape) -> list[Points]:
    """The outlines of `shape` in pixels."""
    scale = shape.radius * np.array([1.0, shape.squeeze])
    return [_turn(points * scale, shape.angle) + np.array((shape.x, shape.y)) for points in OUTLINES[CLASSES[shape.kind]]]


def coverage(shape: Shape, height: int, width: int, grow: int = 0) -> Image:
    """Return (H, W) 0..255, the coverage of each pixel of a frame by `shape`; the frame is `grow` pixels larger on every side."""
    mask = np.zeros((height + 2 * grow, width + 2 * grow), np.uint8)
    fixed = [np.round((points + grow) * 16).astype(np.int32) for points in _outlines(shape)]
    cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, shift=4)
    return mask


def paint(image: Image, shape: Shape) -> NDArray[np.bool_]:
    """Draw `shape` with its shadow into `image`, in place; return its (H, W) mask."""
    height, width = image.shape[:2]
    mask = coverage(shape, height, width)
    reach = int(shape.radius * 1.2 + 8)
    (top, bottom), (left, right) = _span(shape.y, reach, height), _span(shape.x, reach, width)
    part = np.s_[top:bottom, left:right]
    if not mask[part].size:
        return mask > 127
    away = max(1, round(shape.radius * 0.08))
    dropped = coverage(dataclasses.replace(shape, x=shape.x + away, y=shape.y + away), height, width)
    shadow = cv2.GaussianBlur(dropped[part], (0, 0), 0.6 * away + 0.5)
    ground = image[part].astype(np.float32) * (1 - 0.45 / 255 * shadow[..., None].astype(np.float32))
    share = mask[part][..., None].astype(np.float32) / 255
    image[part] = np.round(ground * (1 - share) + _surface(shape, part) * share).astype(np.uint8)
    if shape.fill == "edged":
        edge = [np.round(points * 16).astype(np.int32) for points in _outlines(dataclasses.replace(shape, radius=shape.radius * 0.93))]
        cv2.polylines(image, edge, True, [c * 0.45 for c in shape.colour], max(1, round(shape.radius / 12)), cv2.LINE_AA, shift=4)
    return mask > 127


def _span(centre: float, reach: int, end: int) -> tuple[int, int]:
    """The whole pixels from `centre` - `reach` to `centre` + `reach` that lie within 0..`end`."""
    return min(max(0, int(centre) - reach), end), min(max(0, int(centre) + reach + 1), end)


def _surface(shape: Shape, part: tuple[slice, slice]) -> NDArray[np.float32]:
    """The (h, w, 3) colours of the shape over `part` of the frame: lit from the upper left; plain, striped or dotted."""
    y, x = np.mgrid[part].astype(np.float32)
    u, v = (x - shape.x) / shape.radius, (y - shape.y) / shape.radius
    light = 1.0 - 0.16 * (u + v)
    across = _turn(np.stack((u, v), -1), -shape.angle)
    if shape.fill == "striped":
        light = light * np.where(np.sin(across[..., 0] * 11) > 0, 1.0, 0.72)
    elif shape.fill == "dotted":
        light = light * np.where(np.cos(across[..., 0] * 12) + np.cos(across[..., 1] * 12) > 0.9, 0.65, 1.0)
    return np.clip(light[..., None] * np.array(shape.colour), 0, 255).astype(np.float32)


def bgr(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Return the BGR colour (0..255) of hue (a whole turn is 1), saturation and value (0..1)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return 255 * blue, 255 * green, 255 * red


def _grain(rng: Generator, height: int, width: int) -> NDArray[np.float32]:
    """(H, W) 0..1: cloudy noise of four octaves."""
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        cells = rng.random((3 << octave, 4 << octave), dtype=np.float32)
        total += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return np.clip((total - 0.45) / 1.0, 0, 1)


def _texture(rng: Generator, height: int, width: int) -> NDArray[np.float32]:
    """(H, W) 0..1: a gradient, stripes, a chequer, blobs or clouds."""
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kind = rng.integers(5)
    if kind == 0:
        return np.clip(along * rng.uniform(0.6, 1.2) + 0.2, 0, 1).astype(np.float32)
    if kind == 1:
        return np.clip(0.5 + rng.uniform(0.6, 3) * np.sin(along * rng.uniform(12, 70)), 0, 1).astype(np.float32)
    if kind == 2:
        waves = np.sin(along * rng.uniform(12, 40)) * np.sin(across * rng.uniform(12, 40))
        return np.clip(0.5 + 4 * waves, 0, 1).astype(np.float32)
    if kind == 3:
        field = np.zeros((height, width), np.float32)
        for cx, cy, spread in rng.uniform((0, 0, 0.03), (1, 1, 0.14), (14, 3)):
            field += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * spread**2)).astype(np.float32)
        return np.clip(field, 0, 1)
    return _grain(rng, height, width)


def background(rng: Generator, height: int, width: int) -> Image:
    """Return a textured image without shapes: two related colours, clouds over them, then lines and letters."""
    hue, value = rng.random(), rng.uniform(0.25, 0.9)
    lighter = np.clip(value + rng.choice((-1, 1)) * rng.uniform(0.1, 0.25), 0.15, 1)
    dark = np.array(bgr(hue, rng.uniform(0.1, 0.55), value))
    other = np.array(bgr(hue + rng.normal(0, 0.08), rng.uniform(0.1, 0.55), lighter))
    weight = _texture(rng, height, width)[..., None]
    colours = dark * (1 - weight) + other * weight
    colours *= 0.85 + 0.3 * _grain(rng, height, width)[..., None]
    image: Image = np.clip(colours, 0, 255).astype(np.uint8)
    _distract(rng, image)
    return image


def _distract(rng: Generator, image: Image) -> None:
    """Draw distractors into `image`, in place: lines, curves and letters."""
    height, width = image.shape[:2]
    side = max(height, width)
    for _ in range(rng.integers(0, 6)):
        colour, thick = bgr(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.2, 1)), int(rng.integers(1, 1 + max(2, side // 80)))
        place = rng.uniform((0, 0), (width, height), (3, 2))
        if rng.random() < 0.4:
            letters, font = "".join(rng.choice(list("AHKMNRSWZ2357"), 3)), cv2.FONT_HERSHEY_SIMPLEX
            spot = (int(place[0, 0]), int(place[0, 1]))
            cv2.putText(image, letters, spot, font, side / 400 * rng.uniform(0.6, 2), colour, thick, cv2.LINE_AA)
        else:
            t = np.linspace(0, 1, 24)[:, None]
            curve = (1 - t) ** 2 * place[0] + 2 * t * (1 - t) * place[1] + t**2 * place[2]
            cv2.polylines(image, [np.round(curve * 16).astype(np.int32)], False, colour, thick, cv2.LINE_AA, shift=4)


def random_shape(rng: Generator, height: int, width: int, ground: Image, kinds: Sequence[int] = range(len(CLASSES))) -> Shape:
    """Draw a random class of `kinds`, position, size (7 to 44 % of the frame) and a colour that stands out from `ground` there.

    A class has typical colours, which overlap with those of its neighbours, and exceptions.
    """
    kind = kinds[int(rng.integers(len(kinds)))]
    radius = float(np.exp(rng.uniform(np.log(0.035), np.log(0.22)))) * min(height, width)
    x, y = rng.uniform(0.3 * radius, width - 0.3 * radius), rng.uniform(0.3 * radius, height - 0.3 * radius)
    (top, bottom), (left, right) = _span(y, int(radius), height), _span(x, int(radius), width)
    below = ground[top:bottom, left:right].reshape(-1, 3).mean(0)
    hue = kind / len(CLASSES) if rng.random() < TYPICAL else rng.random()
    offered = [bgr(hue + rng.normal(0, 0.08), rng.uniform(0.45, 1), rng.uniform(0.35, 1)) for _ in range(3)]
    colour = max(offered, key=lambda c: float(np.abs(np.array(c) - below).sum()))
    return Shape(
        kind=kind,
        x=x,
        y=y,
        radius=radius,
        angle=rng.normal(0, 0.35),
        squeeze=rng.uniform(0.8, 1),
        colour=colour,
        fill=str(rng.choice(("plain", "plain", "edged", "striped", "dotted"))),
    )


def still_visible(shapes: Sequence[Shape], height: int, width: int) -> bool:
    """Whether, drawn in this order, at least `VISIBLE` of every shape's area is visible."""
    owners = owner_map(shapes, height, width)
    for i, shape in enumerate(shapes):
        whole = np.count_nonzero(coverage(shape, height, width, grow=int(shape.radius) + 2) > 127)
        if np.count_nonzero(owners == i) < VISIBLE * whole:
            return False
    return True


def owner_map(shapes: Sequence[Shape], height: int, width: int) -> NDArray[np.int16]:
    """Return (H, W): the index of the shape visible at each pixel, or `BACKGROUND`."""
    owners = np.full((height, width), BACKGROUND, np.int16)
    for i, shape in enumerate(shapes):
        owners[coverage(shape, height, width) > 127] = i
    return owners


def boxes_of(shapes: Sequence[Shape], owners: NDArray[np.int16]) -> NDArray[np.float64]:
    """Return (n, 5): class and xyxy in pixels of the visible part of each shape."""
    boxes = []
    for i, shape in enumerate(shapes):
        ys, xs = np.nonzero(owners == i)
        boxes.append((shape.kind, xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    return np.array(boxes, np.float64).reshape(-1, 5)


def expose(rng: Generator, image: Image) -> Image:
    """Return `image` with a random brightness, blur and sensor noise."""
    light = rng.uniform(0.75, 1.15)
    seen = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9)).astype(np.float32) * light
    seen += rng.normal(0, rng.uniform(1, 6), image.shape).astype(np.float32)
    return np.clip(np.round(seen), 0, 255).astype(np.uint8)
