"""Writing what a validation detected: COCO's results JSON, and YOLO rows, a text file an image."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from utils.data.index import Index

Found = Iterable[tuple[int, NDArray[np.float32]]]
"""Image numbers with (k, 6) xyxy in source pixels, confidence, class."""

_ABSENT = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(i for i in range(1, 91) if i not in _ABSENT)
"""The category ids of COCO's 80 classes: 1 to 90 with ten left out."""


def category_ids(names: Mapping[int, str], sources: Sequence[Path]) -> dict[int, int]:
    """Return the category id of each class number.

    Args:
        names: of the classes.
        sources: what the split is read from. A COCO JSON among them says its own ids; without one, COCO's 80 classes have COCO's
            ids, and any others their number.
    """
    for path in sources:
        if path.suffix.lower() == ".json":
            listed = json.loads(path.read_text(encoding="utf-8-sig"))["categories"]
            by_name = {entry["name"]: int(entry["id"]) for entry in listed}
            return {c: by_name.get(name, c) for c, name in names.items()}
    if len(names) == len(COCO_IDS) and (names[0], names[79]) == ("person", "toothbrush"):
        return dict(enumerate(COCO_IDS))
    return {c: c for c in names}


def write_json(path: Path, found: Found, index: Index, ids: Mapping[int, int]) -> None:
    """Write a COCO results file: left, top, width, height in pixels to 3 decimals, the score to 5."""
    rows = []
    for i, predictions in found:
        boxes = predictions[:, :4].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, cls in zip(boxes.tolist(), predictions[:, 4].tolist(), predictions[:, 5].astype(int).tolist(), strict=True):
            bbox = [round(v, 3) for v in box]
            rows.append({"image_id": index.image_ids[i], "category_id": ids[cls], "bbox": bbox, "score": round(score, 5)})
    path.write_text(json.dumps(rows), encoding="utf-8")


def write_txt(folder: Path, found: Found, index: Index, *, confidence: bool) -> None:
    """Write ``class cx cy w h [confidence]`` rows, normalised to the image, into a file for each image with detections."""
    places = label_files(index.paths)
    for i, predictions in found:
        if not len(predictions):
            continue
        height, width = index.sizes[i].tolist()
        low, high = predictions[:, :2].astype(np.float64), predictions[:, 2:4].astype(np.float64)
        boxes = np.concatenate(((low + high) / 2, high - low), 1) / np.array([width, height] * 2)
        columns = np.column_stack((boxes, predictions[:, 4:5])) if confidence else boxes
        lines = [" ".join((str(int(c)), *(f"{v:g}" for v in row))) for c, row in zip(predictions[:, 5], columns.tolist(), strict=True)]
        file = folder / places[i]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([*lines, ""]), encoding="utf-8")


def label_files(paths: Sequence[Path]) -> list[Path]:
    """Return a relative text file for each image: by its stem; where stems repeat, all by their place below the common folder."""
    flat = [Path(f"{path.stem}.txt") for path in paths]
    if len(set(flat)) == len(flat):
        return flat
    root = os.path.commonpath([path.parent for path in paths])
    within = [path.relative_to(root) for path in paths]
    count = Counter(path.with_suffix("") for path in within)
    return [path.with_suffix(".txt") if count[path.with_suffix("")] == 1 else path.with_name(f"{path.name}.txt") for path in within]
