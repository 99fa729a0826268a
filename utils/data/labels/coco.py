"""COCO instances JSON: one file a split, boxes in pixels, polygons, crowds, mask areas."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from utils.data.labels.find_files import CocoImage
from utils.data.labels.image_lists import tails
from utils.data.labels.label_report import NO_POLYGON, FileFindings, ImageAnnotations
from utils.data.labels.match_names import FolderListings
from utils.data.labels.voc import choose_frame
from utils.errors import UserError, nearest

_MAX_COORDINATE = 1e9
"""Larger than any image; sums of such numbers do not overflow."""


@dataclasses.dataclass(frozen=True, slots=True)
class CocoFile:
    """A JSON's images and, for each category id, its name."""

    path: Path
    images: list[CocoImage]
    categories: dict[int, str]
    findings: FileFindings


def read_coco(path: Path, content: bytes, images: Path | None, root: Path) -> CocoFile:
    """Read a COCO instances file.

    Args:
        images: the folder of its images; None searches near the JSON and in `root`.

    Raises:
        UserError: not valid JSON, or not in COCO format.
    """
    document = _load(path, content)
    findings = FileFindings(path)
    entries: dict[int | str, dict[str, Any]] = {}
    for entry in _objects(document, "images", path, findings):
        key, name = entry.get("id"), entry.get("file_name")
        if not _is_key(key) or not isinstance(name, str) or not name:
            findings.drop("entry", f"image {key!r}: needs an id and a file_name")
        elif key in entries:
            findings.drop("entry", f"image {key!r}: {name!r} has the id of {entries[key]['file_name']!r}")
        else:
            entries[key] = entry
    grouped: dict[int | str, list[dict[str, Any]]] = {}
    for annotation in _objects(document, "annotations", path, findings):
        key = annotation.get("image_id")
        if _is_key(key) and key in entries:
            grouped.setdefault(key, []).append(annotation)
        else:
            findings.drop("entry", f"annotation {annotation.get('id')!r}: there is no image with the id {key!r}")
    split = path.stem.rpartition("_")[2]  # instances_train2017 -> train2017
    near = (path.parent, path.parent.parent, root)
    below = ("", f"images/{split}", "images", split)
    places = [images] if images else list(dict.fromkeys(base / sub for base in near for sub in below))
    listings = FolderListings()
    found = []
    for key, entry in entries.items():
        height, width = (int(side) if _is_number(side) else 0 for side in (entry.get("height"), entry.get("width")))
        found.append(CocoImage(_locate(entry["file_name"], places, listings), key, (height, width), grouped.get(key, [])))
    return CocoFile(path, found, category_names(path, document), findings)


def class_map(file: CocoFile, names: Mapping[int, str]) -> dict[int, int]:
    """Return the class id of each category id, by name.

    Raises:
        UserError: annotations of categories that `names` lacks; lists them.
    """
    numbers = {name: number for number, name in sorted(names.items(), reverse=True)}  # the first of two equal names wins
    categories = (a.get("category_id") for image in file.images for a in image.annotations)
    used = {key for key in categories if isinstance(key, int)}
    lost = [name for key, name in file.categories.items() if key in used and name not in numbers]
    if lost:
        listed = ", ".join(f"{name!r}{nearest(name, numbers)}" for name in lost[:10])
        more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
        raise UserError(f"{file.path}: annotates categories that are not among the dataset's names: {listed}{more}")
    return {key: numbers[name] for key, name in file.categories.items() if name in numbers}


def coco_annotations(image: CocoImage, file: Path, classes: Mapping[int, int], size: tuple[int, int]) -> ImageAnnotations:
    """Convert an image's annotations; `size` is the (height, width) of the image file."""
    findings = FileFindings(file)
    kept: list[tuple[dict[str, Any], list[float]]] = []
    for annotation in image.annotations:
        box, kind, fault = _read_box(annotation, classes)
        if fault:
            findings.drop(kind, f"annotation {annotation.get('id')!r} ({image.path.name}): {fault}")
        else:
            kept.append((annotation, box))
    if not kept:
        return ImageAnnotations(findings)
    xywh = np.array([box for _, box in kept])
    frame = choose_frame(image.size, size, (float((xywh[:, 1] + xywh[:, 3]).max()), float((xywh[:, 0] + xywh[:, 2]).max())), findings)
    scale = np.array([frame[1], frame[0]], np.float64)
    low = np.clip(xywh[:, :2] / scale, 0, 1)
    high = np.clip((xywh[:, :2] + xywh[:, 2:]) / scale, 0, 1)
    boxes = np.column_stack(([classes[a["category_id"]] for a, _ in kept], (low + high) / 2, high - low))
    inside = np.asarray((boxes[:, 3:] > 0).all(1)).tolist()
    for (annotation, box), good in zip(kept, inside, strict=True):
        if not good:
            findings.drop("range", f"annotation {annotation.get('id')!r} ({image.path.name}): the box {box} lies outside the image")
    stated = [a.get("area") for a, _ in kept]
    area = np.array([float(value) if _is_number(value) and value > 0 else math.nan for value in stated]) * (
        size[0] * size[1] / (frame[0] * frame[1])
    )
    crowd = np.array([a.get("iscrowd") in (1, True) for a, _ in kept])
    polygons = [outline(a.get("segmentation"), scale) for (a, _), good in zip(kept, inside, strict=True) if good]
    return ImageAnnotations(findings, boxes[inside], polygons, area[inside], crowd[inside])


def outline(segmentation: Any, scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return an object's polygon as (m, 2) points divided by the (width, height) `scale`; no points for a mask (RLE) or an invalid polygon.

    Several parts become one outline that returns to the first point after each of them: the connecting lines overlap, so filling
    it fills the parts only.
    """
    if not isinstance(segmentation, list):
        return NO_POLYGON
    parts = [p for p in segmentation if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and all(map(_is_number, p))]
    if not parts:
        return NO_POLYGON
    points = [np.array(p, np.float64).reshape(-1, 2) for p in parts]
    joined = points[0] if len(points) == 1 else np.concatenate([q for p in points for q in (p, p[:1], points[0][:1])])
    return np.clip(joined / scale, 0, 1).astype(np.float32)


def category_names(path: Path, document: Mapping[str, Any]) -> dict[int, str]:
    """Return name by category id, in the order of the ids.

    Raises:
        UserError: a category without an integer id or a name, or two with the same.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    for entry in _objects(document, "categories", path):
        key, name = entry.get("id"), entry.get("name")
        if not isinstance(key, int) or not isinstance(name, str):
            raise UserError(f"{path}: a category needs an integer id and a string name, got {entry}")
        if key in names or name in taken:
            raise UserError(f"{path}: category {key} ({name!r}) is defined twice")
        names[key] = name
        taken.add(name)
    return dict(sorted(names.items()))


def coco_names(path: Path, content: bytes) -> list[str]:
    """Return the category names of a COCO file in the order of their ids.

    Raises:
        UserError: as `read_coco`.
    """
    return list(category_names(path, _load(path, content)).values())


def _locate(name: str, places: Sequence[Path], listings: FolderListings) -> Path:
    """Return the path of an image that a JSON names, in the first of `places` that has it.

    Leading folders are dropped where they are those of another machine or layout; Label Studio's ``?d=`` holds a path.
    """
    written = name.replace("\\", "/")
    path = unquote(written.partition("?d=")[2]) or written
    for form in (path, *tails(path)):
        for place in map(str, places):
            if found := listings.find_path(place, form):
                return found
        if not Path(form).suffix:
            stems = ((str(place / form), listings.find_stem(str((place / form).parent), Path(form).name)) for place in places)
            if stem := next(((where, stem) for where, stem in stems if stem), None):
                return Path(stem[0]).with_name(stem[1])
    return places[0] / path


def _load(path: Path, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(document, dict) or "images" not in document:
        kind = "a list, as for detections" if isinstance(document, list) else "without 'images'"
        raise UserError(f"{path}: not COCO ground truth ({kind}); it needs images, annotations and categories")
    return document


def _objects(document: Mapping[str, Any], key: str, path: Path, findings: FileFindings | None = None) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list in the document; other entries are reported to `findings`, or an error without."""
    entries = document.get(key, [])
    if not isinstance(entries, list) or (findings is None and not all(isinstance(entry, dict) for entry in entries)):
        raise UserError(f"{path}: {key!r} is not a list of objects")
    for at, entry in enumerate(entries):
        if isinstance(entry, dict):
            yield entry
        elif findings is not None:
            findings.drop("entry", f"{key}[{at}]: {entry!r:.40} is not an object")


def _is_key(value: Any) -> TypeGuard[int | str]:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _read_box(annotation: Mapping[str, Any], classes: Mapping[int, int]) -> tuple[list[float], str, str]:
    """Return an annotation's x, y, width, height in pixels, and kind and description of what is wrong with it."""
    key = annotation.get("category_id")
    if not isinstance(key, int) or isinstance(key, bool) or key not in classes:
        return [], "class", f"there is no category with the id {key!r}"
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return [], "number", f"bbox {box!r:.80} is not four numbers x, y, width, height"
    if max(map(abs, box)) > _MAX_COORDINATE:
        return [], "range", f"the box {box} lies outside the image"
    return [float(v) for v in box], *(("", "") if min(box[2:]) > 0 else ("area", f"the box {box} has no area"))
