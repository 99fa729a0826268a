"""The frame that boxes in pixels refer to: the image's size or the label file's, upright or as it was before EXIF turned it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.data.labels.label_report import FileFindings, ImageAnnotations

Size = tuple[int, int]

_TURNS = {
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""What makes a stored image of an EXIF orientation upright: whether to exchange x and y, and then mirror x, and y (Exif 2.3, tag 274)."""


def choose_frame(
    declared: Size, actual: Size, orientation: int, reach: tuple[float, float], findings: FileFindings
) -> tuple[Size, bool | None]:
    """Return the (height, width) that boxes in pixels refer to, and whether it is that of the stored image; None if the sizes do not tell.

    Args:
        declared: the label file's size of the image, which is that of an image that was scaled after labelling, too. It is believed
            where it has the aspect ratio of the image, and the boxes are inside. 0 where there is none.
        actual: the size of the upright image, whose EXIF `orientation` is 1 to 8.
        reach: the largest y and x of the boxes.
    """
    stored = actual[::-1] if orientation > 4 else actual
    if min(declared) <= 0:
        return actual, None
    if declared == actual:
        return actual, None if stored == actual else False
    if stored != actual and (declared == stored or (_alike(declared, stored) and not _alike(declared, actual))):
        if _inside(reach, declared) or not _inside(reach, declared[::-1]):
            return declared, True
        return declared[::-1], False  # a tool that reads the size from the file's header, but shows the image upright
    findings.note("frame", f"the label file says {declared[1]} x {declared[0]} pixels, the image has {actual[1]} x {actual[0]}")
    return declared if _alike(declared, actual) and _inside(reach, declared) else actual, None


def _alike(one: Size, other: Size) -> bool:
    return abs(one[0] / one[1] / (other[0] / other[1]) - 1) < 0.02


def _inside(reach: tuple[float, float], size: Size) -> bool:
    return reach[0] <= size[0] + 1 and reach[1] <= size[1] + 1


def turn(found: ImageAnnotations, orientation: int) -> None:
    """Turn the annotations of a stored image upright, in place."""
    exchange, *mirror = _TURNS[orientation]
    boxes = found.annotations
    if exchange:
        boxes[:, 1:] = boxes[:, [2, 1, 4, 3]]
        found.polygons = [polygon[:, ::-1] for polygon in found.polygons]
    for axis, flag in enumerate(mirror):
        if flag:
            boxes[:, 1 + axis] = 1 - boxes[:, 1 + axis]
            corner = np.array([1 - axis, axis], np.float32)
            found.polygons = [abs(polygon - corner) for polygon in found.polygons]  # 1 - x, or 1 - y


def turn_stored(tools: Sequence[Path | None], found: Sequence[ImageAnnotations], orientations: Sequence[int]) -> list[FileFindings]:
    """Turn the annotations of stored images upright, in place, and tell how many, in a line for each tool.

    A tool works one way: where the size of an image does not tell (a mirrored or a square one, or none), the other images of the same
    JSON or folder of XML files do. Where none tells, the boxes are upright, since labelling tools show images upright.

    Args:
        tools: the JSON or the folder of each image's annotations, with boxes in pixels; None for others, which are upright.
    """
    told: defaultdict[Path, set[bool]] = defaultdict(set)
    turned: defaultdict[Path, list[tuple[ImageAnnotations, int]]] = defaultdict(list)
    for tool, one, orientation in zip(tools, found, orientations, strict=True):
        if tool is not None and orientation > 1 and len(one.annotations):
            turned[tool].append((one, orientation))
            told[tool] |= set() if one.stored is None else {one.stored}
    lines = []
    for tool, images in turned.items():
        stored = [(one, orientation) for one, orientation in images if one.stored or (one.stored is None and told[tool] == {True})]
        for one, orientation in stored:
            turn(one, orientation)
        unsure = sum(one.stored is None for one, _ in images) if len(told[tool]) != 1 else 0
        lines.append(FileFindings(tool))
        if stored:
            lines[-1].note(
                "turned", f"the boxes of {len(stored)} images are, by the size, those before EXIF turns them: they are turned, too"
            )
        if unsure:
            lines[-1].note("turned", f"EXIF turns {unsure} images, and no size tells if it turned their boxes: they are taken as upright")
    return lines
