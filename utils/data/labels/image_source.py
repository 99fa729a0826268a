"""An image before it is opened, with where its annotations come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


@dataclasses.dataclass(frozen=True, slots=True)
class CocoImage:
    """An image of a COCO JSON: its file, id, declared (height, width), and annotations as they stand there."""

    path: Path
    image_id: int | str
    size: tuple[int, int]
    annotations: list[dict[str, Any]]


class ImageSource(NamedTuple):
    """An image and where its annotations come from.

    Attributes:
        label: its label file (YOLO .txt or VOC .xml), or the COCO JSON that names it; None when it has none.
        content: of the label file; the error where it cannot be read.
        coco: its entry of the JSON, and `coco_classes` the class id of each category id there.
    """

    path: Path
    label: Path | None
    content: bytes | OSError | None = None
    coco: CocoImage | None = None
    coco_classes: Mapping[int, int] | None = None
