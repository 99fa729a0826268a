"""Draw the dataset of the study: ``python -m benchmarks.cue FOLDER``.

Each image has a red or a green lamp in a corner, and rings at least `NEAREST` pixels away, whose class is the colour of the lamp:
nothing at a ring tells it. Squares and triangles can be told by themselves.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from utils.cli import option, parse, run
from utils.data import shape_drawing as drawing

SIZE = 128
NEAREST = 64.0
"""Pixels between the centres of lamp and ring; an output sees less than half of it in each direction."""
NAMES = ("square", "triangle", "red lamp", "green lamp", "ring at red", "ring at green")
HUES = (0.0, 0.36)
SPLITS = {"train": 400, "val": 100, "test": 300}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CueConfig:
    """Flags of ``python -m benchmarks.cue``."""

    folder: str = option("datasets/cue", "folder to write", positional=True)


def main() -> None:
    """Write the dataset in YOLO's form."""
    config, _ = parse(CueConfig, description=__doc__ or "")
    folder = Path(config.folder)
    for number, (split, count) in enumerate(SPLITS.items()):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, labels = draw(np.random.default_rng((number, index)))
            cv2.imwrite(str(folder / "images" / split / f"{index:05d}.png"), image)
            np.savetxt(folder / "labels" / split / f"{index:05d}.txt", labels, ("%d", *["%.6f"] * 4))
    splits = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))
    (folder / "data.yaml").write_text(f"path: .\n{splits}names:\n{names}", encoding="utf-8")


def draw(rng: Generator) -> tuple[drawing.Image, NDArray[np.float64]]:
    """Draw an image: (128, 128, 3) BGR, and (n, 5) class, cx, cy, w, h as fractions; the first is the lamp."""
    image = drawing.background(rng, SIZE, SIZE)
    red_or_green = int(rng.integers(2))
    lamp = np.where(rng.integers(2, size=2), SIZE - 1 - rng.uniform(11, 20, 2), rng.uniform(11, 20, 2))
    shapes = [shape(rng, "circle", lamp, HUES[red_or_green])]
    classes = [2 + red_or_green]
    for kind in ["ring"] * int(rng.integers(1, 4)) + [str(rng.choice(NAMES[:2])) for _ in range(rng.integers(4))]:
        places = rng.uniform(12, SIZE - 12, (50, 2))
        free = [p for p in places if all(np.hypot(s.x - p[0], s.y - p[1]) > s.radius + 14 for s in shapes)]
        free = [p for p in free if kind != "ring" or np.hypot(*(p - lamp)) >= NEAREST]
        if free:
            shapes.append(shape(rng, kind, free[0], rng.random()))
            classes.append(4 + red_or_green if kind == "ring" else NAMES.index(kind))
    for each in shapes:
        drawing.paint(image, each)
    _, x1, y1, x2, y2 = drawing.boxes_of(shapes, drawing.owner_map(shapes, SIZE, SIZE)).T
    boxes = np.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), 1) / SIZE
    return drawing.expose(rng, image), np.column_stack((classes, boxes))


def shape(rng: Generator, kind: str, centre: NDArray[np.float64], hue: float) -> drawing.Shape:
    """A shape of random size, in a bright colour of `hue`."""
    return drawing.Shape(
        kind=drawing.CLASSES.index(kind),
        x=float(centre[0]),
        y=float(centre[1]),
        radius=rng.uniform(7, 12),
        angle=rng.normal(0, 0.35),
        squeeze=rng.uniform(0.8, 1),
        colour=drawing.bgr(hue + rng.normal(0, 0.02), rng.uniform(0.8, 1), rng.uniform(0.75, 1)),
        fill=str(rng.choice(("plain", "plain", "edged", "striped"))),
    )


if __name__ == "__main__":
    run(main)
