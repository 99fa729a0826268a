"""Writing the detections of a validation: COCO's results JSON, and a YOLO label file per image."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.coco_ap import to_xywh
from utils.files.atomic import write_text

if TYPE_CHECKING:
    from utils.data.index import Index

Detections = Iterable[tuple[int, NDArray[np.float32]]]
"""Image indices with (k, 6) xyxy in pixels of the original image, confidence, class id."""

_ABSENT = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(i for i in range(1, 91) if i not in _ABSENT)
"""The category ids of COCO's 80 classes: 1 to 90 without ten."""


def category_ids(names: Mapping[int, str], sources: Sequence[Path]) -> dict[int, int]:
    """Return the category id of each class id.

    Args:
        names: class names by class id.
        sources: files the split is read from. A COCO JSON among them gives the category ids; without one, COCO's 80 classes have
            COCO's ids, and any others their class id.
    """
    for path in sources:
        if path.suffix.lower() == ".json":
            listed = json.loads(path.read_text(encoding="utf-8-sig"))["categories"]
            by_name = {entry["name"]: int(entry["id"]) for entry in listed}
            return {c: by_name.get(name, c) for c, name in names.items()}
    if len(names) == len(COCO_IDS) and (names[0], names[79]) == ("person", "toothbrush"):
        return dict(enumerate(COCO_IDS))
    return {c: c for c in names}


def write_json(path: Path, found: Detections, index: Index, ids: Mapping[int, int]) -> None:
    """Write a COCO results file: left, top, width, height in pixels to 3 decimals, the score to 5.

    Ids of images that are not all different, as 1 for ``day/001.jpg`` and ``night/001.jpg``, are replaced by names that are.
    """
    names = [file.with_suffix("").as_posix() for file in label_files(index.paths)]
    image_ids = index.image_ids if len(set(index.image_ids)) == len(index.paths) else names
    entries = []
    for i, detections in found:
        columns = (to_xywh(detections[:, :4]), detections[:, 4], detections[:, 5].astype(int))
        for box, score, cls in zip(*(column.tolist() for column in columns), strict=True):
            bbox = [round(v, 3) for v in box]
            entry = {"image_id": image_ids[i], "category_id": ids[cls], "bbox": bbox, "score": round(score, 5)}
            entries.append(entry | {"file_name": Path(names[i]).with_name(index.paths[i].name).as_posix()})
    write_text(path, json.dumps(entries))


def write_txt(folder: Path, found: Detections, index: Index, *, confidence: bool) -> None:
    """Write ``class cx cy w h [confidence]`` lines, normalized to the image, into a file for each image with detections."""
    places = label_files(index.paths)
    for i, detections in found:
        if not len(detections):
            continue
        height, width = index.sizes[i].tolist()
        low, high = detections[:, :2].astype(np.float64), detections[:, 2:4].astype(np.float64)
        boxes = np.concatenate(((low + high) / 2, high - low), 1) / np.array([width, height] * 2)
        columns = np.column_stack((boxes, detections[:, 4:5])) if confidence else boxes
        lines = [" ".join((str(int(c)), *(f"{v:g}" for v in row))) for c, row in zip(detections[:, 5], columns.tolist(), strict=True)]
        file = folder / places[i]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "\n".join([*lines, ""]), durable=False)


def label_files(paths: Sequence[Path]) -> list[Path]:
    """Return a relative text file for each image: its stem, or, where stems repeat, its path below the common folder."""
    flat = [Path(f"{path.stem}.txt") for path in paths]
    if len(set(flat)) == len(flat):
        return flat
    root = os.path.commonpath([path.parent for path in paths])
    within = [path.relative_to(root) for path in paths]
    count = Counter(path.with_suffix("") for path in within)
    return [path.with_suffix(".txt") if count[path.with_suffix("")] == 1 else path.with_name(f"{path.name}.txt") for path in within]
