"""Draw the dataset of the study: ``python -m benchmarks.cue FOLDER``.

Each image has a red or a green lamp in a corner, and rings at least `NEAREST` pixels away, whose class is the colour of the lamp:
nothing at a ring tells it. Squares and triangles can be told by themselves.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from utils.cli import option, parse, run
from utils.data import shape_drawing as drawing
from utils.data.shapes import label_lines, write_images

SIZE = 128
NEAREST = 64.0
"""Pixels between the centres of lamp and ring; an output sees less than half of it in each direction."""
NAMES = ("square", "triangle", "red lamp", "green lamp", "ring at red", "ring at green")
HUES = (0.0, 0.36)
KINDS = (("square", "triangle", "circle", "", "ring", ""), ("square", "triangle", "", "circle", "", "ring"))
"""What is drawn for each of `NAMES`, where the lamp is red, and where it is green."""
SPLITS = {"train": 400, "val": 100, "test": 300}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CueConfig:
    """Flags of ``python -m benchmarks.cue``."""

    folder: str = option("datasets/cue", "folder to write", positional=True)


def main() -> None:
    """Write the dataset in YOLO's form."""
    config, _ = parse(CueConfig, description=__doc__ or "")
    write_images(Path(config.folder), SPLITS, NAMES, draw)


def draw(split: str, index: int) -> tuple[drawing.Image, list[str]]:
    """Draw image `index` of `split`: (128, 128, 3) BGR, and its label lines, the first the lamp's."""
    rng = np.random.default_rng((list(SPLITS).index(split), index))
    image = drawing.background(rng, SIZE, SIZE)
    colour = int(rng.integers(2))
    lamp = np.where(rng.integers(2, size=2), SIZE - 1 - rng.uniform(11, 20, 2), rng.uniform(11, 20, 2))
    shapes = [shape(rng, "circle", lamp, HUES[colour])]
    for kind in ["ring"] * int(rng.integers(1, 4)) + [str(rng.choice(NAMES[:2])) for _ in range(rng.integers(4))]:
        places = rng.uniform(12, SIZE - 12, (50, 2))
        free = [p for p in places if all(np.hypot(s.x - p[0], s.y - p[1]) > s.radius + 14 for s in shapes)]
        free = [p for p in free if kind != "ring" or np.hypot(*(p - lamp)) >= NEAREST]
        if free:
            shapes.append(shape(rng, kind, free[0], rng.random()))
    for each in shapes:
        drawing.paint(image, each)
    lines = label_lines(shapes, SIZE, SIZE, [drawing.CLASSES.index(kind) if kind else -1 for kind in KINDS[colour]])
    return drawing.expose(rng, image), lines


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
