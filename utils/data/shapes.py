"""Generate the demo's dataset and clip: ``python -m utils.data.shapes OUT``.

The same seed gives the same bytes, and image k of a split does not depend on their number.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli import option, parse, run
from utils.errors import UserError
from utils.log import LOG, start_log

if TYPE_CHECKING:
    from utils.data.shape_drawing import Image, Shape

SPLITS = ("train", "val", "test", "clip")
NEGATIVE = 0.08
"""Fraction of images without any shape."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShapesConfig:
    """Flags of ``python -m utils.data.shapes``."""

    out: str = option("datasets/shapes", "folder to write; its images/ and labels/ are replaced file by file")
    train: int = option(400, "training images")
    val: int = option(80, "validation images")
    test: int = option(80, "test images")
    size: int = option(320, "side of the images in pixels")
    frames: int = option(60, "frames of clip.mp4; 0 writes none")
    classes: tuple[str, ...] = option((), "draw these classes only, with ids in this order (default: all eight)", nargs="+", type=str)
    seed: int = option(0, "random seed")

    def __post_init__(self) -> None:
        for name, minimum in (("train", 1), ("val", 1), ("test", 0), ("size", 32), ("frames", 0), ("seed", 0)):
            if getattr(self, name) < minimum:
                raise UserError(f"--{name} {getattr(self, name)}: must be >= {minimum}")


def draw(seed: int, split: str, index: int, size: int, kinds: Sequence[int] | None = None) -> tuple[Image, list[Shape]]:
    """Draw image `index` of `split`: (size, size, 3) BGR and its shapes of `kinds` (all where None), rearmost first."""
    import numpy as np

    from utils.data import shape_drawing as drawing

    kinds = kinds or range(len(drawing.CLASSES))
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    image = drawing.background(rng, size, size)
    shapes: list[Shape] = []
    wanted = 0 if rng.random() < NEGATIVE else rng.integers(1, 10)
    for _ in range(wanted):
        candidates = (drawing.random_shape(rng, size, size, image, kinds) for _ in range(8))
        shapes += next(([c] for c in candidates if drawing.still_visible([*shapes, c], size, size)), [])
    for shape in shapes:
        drawing.paint(image, shape)
    return drawing.expose(rng, image), shapes


def _kind(name: str) -> int:
    """Return the place of the class `name` in `CLASSES`."""
    from utils.data.shape_drawing import CLASSES

    if name not in CLASSES:
        raise UserError(f"--classes {name}: the classes are {', '.join(CLASSES)}")
    return CLASSES.index(name)


def label_lines(shapes: list[Shape], height: int, width: int, kinds: Sequence[int] | None = None) -> list[str]:
    """Return YOLO lines ``class cx cy w h`` (0..1) of the visible part of each shape; a class is its index in `kinds`."""
    from utils.data import shape_drawing as drawing

    lines = []
    for kind, x1, y1, x2, y2 in drawing.boxes_of(shapes, drawing.owner_map(shapes, height, width)):
        cx, cy, w, h = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
        lines.append(f"{kinds.index(int(kind)) if kinds else int(kind)} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}\n")
    return lines


def write_dataset(out: Path, counts: Mapping[str, int], *, size: int = 320, seed: int = 0, classes: Sequence[str] = ()) -> Path:
    """Write ``images/<split>/*.jpg``, ``labels/<split>/*.txt`` and ``data.yaml`` below `out`; return the path of the YAML.

    `classes` are the names of the classes drawn; all of them where it is empty.
    """
    from utils.data.shape_drawing import CLASSES

    kinds = [_kind(name) for name in classes or CLASSES]

    def labelled(split: str, index: int) -> tuple[Image, list[str]]:
        image, shapes = draw(seed, split, index, size, kinds)
        return image, label_lines(shapes, size, size, kinds)

    return write_images(out, counts, classes or CLASSES, labelled)


def write_images(
    out: Path, counts: Mapping[str, int], names: Sequence[str], labelled: Callable[[str, int], tuple[Image, list[str]]]
) -> Path:
    """Write a dataset of classes `names`, of what `labelled` returns for each split and index: an image and its label lines."""
    import cv2

    for split, count in counts.items():
        images, labels = out / "images" / split, out / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, lines = labelled(split, index)
            if not cv2.imwrite(str(images / f"{index:05d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 92]):
                raise OSError(f"{images}: no image could be written")
            (labels / f"{index:05d}.txt").write_text("".join(lines), encoding="utf-8")
    numbered = "".join(f"  {i}: {name}\n" for i, name in enumerate(names))
    splits = "".join(f"{split}: images/{split}\n" for split, count in counts.items() if count)
    path = out / "data.yaml"
    path.write_text(f"path: .\n{splits}names:\n{numbered}", encoding="utf-8")
    return path


def write_clip(path: Path, *, frames: int = 60, width: int = 320, height: int = 240, seed: int = 0, classes: Sequence[str] = ()) -> None:
    """Write an MP4 of shapes of `classes` (all where it is empty) that drift, turn and bounce off the borders, at 25 frames per second."""
    import cv2
    import numpy as np

    from utils.data import shape_drawing as drawing

    rng = np.random.default_rng((seed, SPLITS.index("clip"), 0))
    empty = drawing.background(rng, height, width)
    drawn = [drawing.random_shape(rng, height, width, empty) for _ in range(5)]
    kinds = np.resize(rng.permutation([_kind(name) for name in classes or drawing.CLASSES]), 5).tolist()
    shapes = [dataclasses.replace(s, kind=k, radius=max(s.radius, 0.09 * height)) for s, k in zip(drawn, kinds, strict=True)]
    motion = rng.uniform((-4, -3, -0.06), (4, 3, 0.06), (5, 3))
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    if not video.isOpened():
        raise UserError(f"{path}: OpenCV cannot write this video; check that the folder is writable")
    for frame in range(frames):
        image = empty.copy()
        for shape, (right, down, turn) in zip(shapes, motion * frame, strict=True):
            x, y = (shape.x + right) % (2 * width), (shape.y + down) % (2 * height)  # reflected at the borders
            moved = dataclasses.replace(shape, x=min(x, 2 * width - x), y=min(y, 2 * height - y), angle=shape.angle + turn)
            drawing.paint(image, moved)
        video.write(image)
    video.release()


def main() -> None:
    """Write the dataset and the clip that the command line asks for."""
    argv = sys.argv[1:]
    config, _ = parse(ShapesConfig, ["--out", *argv] if argv and not argv[0].startswith("-") else argv, description=__doc__ or "")
    start_log()
    out = Path(config.out)
    counts = {"train": config.train, "val": config.val, "test": config.test}
    try:
        path = write_dataset(out, counts, size=config.size, seed=config.seed, classes=config.classes)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error}); name another folder") from error
    if config.frames:
        write_clip(out / "clip.mp4", frames=config.frames, seed=config.seed, classes=config.classes)
    LOG.info("%d images of shapes: %s", sum(counts.values()), path)


if __name__ == "__main__":
    run(main)
