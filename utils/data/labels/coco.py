"""COCO instances JSON: one file a split, boxes in pixels, polygons, crowds, mask areas."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from utils.data.labels.coco_ids import Id, Ids, read_id, read_number, sort_key
from utils.data.labels.coco_outlines import outline, outline_box
from utils.data.labels.find_files import CocoImage, is_image_name
from utils.data.labels.frames import choose_frame
from utils.data.labels.image_lists import tails
from utils.data.labels.label_report import FileFindings, ImageAnnotations
from utils.data.labels.match_names import FolderListings
from utils.errors import UserError, nearest
from utils.files.encodings import decode_text

_MAX_COORDINATE = 1e9
"""Larger than any image; sums of such numbers do not overflow."""


@dataclasses.dataclass(frozen=True, slots=True)
class CocoFile:
    """A JSON's images and, for each category id, its name."""

    path: Path
    images: list[CocoImage]
    categories: dict[Id, str]
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
    entries: dict[Id, dict[str, Any]] = {}
    for entry in _objects(document, "images", path, findings):
        key, name = read_id(entry.get("id")), entry.get("file_name")
        if key is None or not isinstance(name, str) or not name:
            findings.drop("entry", f"image {entry.get('id')!r}: needs an id and a file_name")
        elif key in entries:
            findings.drop("entry", f"image {key!r}: {name!r} has the id of {entries[key]['file_name']!r}")
        else:
            entries[key] = entry
    categories = category_names(path, document)
    grouped = _annotations_of_images(document, path, Ids(entries), Ids(categories), findings)
    split = path.stem.rpartition("_")[2]  # instances_train2017 -> train2017
    near = (path.parent, path.parent.parent, root)
    below = ("", f"images/{split}", "images", split, "data", "JPEGImages")
    listings = FolderListings()
    searched = [images] if images else [base / sub for base in near for sub in below]
    places = [place for place in dict.fromkeys(searched) if listings.names(str(place))] or searched[:1]
    info = document.get("info")
    by_header = isinstance(info, dict) and info.get("contributor") == "Label Studio"
    found = []
    for key, entry in entries.items():
        height, width = (int(read_number(entry.get(side)) or 0) for side in ("height", "width"))
        found.append(CocoImage(_locate(entry["file_name"], places, listings), key, (height, width), grouped.get(key, []), by_header))
    return CocoFile(path, found, categories, findings)


def _annotations_of_images(
    document: Mapping[str, Any], path: Path, images: Ids, categories: Ids, findings: FileFindings
) -> dict[Id, list[dict[str, Any]]]:
    """Return the annotations by image id, their category ids as the categories have them."""
    grouped: dict[Id, list[dict[str, Any]]] = {}
    stray = None
    for annotation in _objects(document, "annotations", path, findings):
        key = images.find(annotation.get("image_id"))
        if key is None:
            stray = annotation
            findings.drop("entry", f"annotation {annotation.get('id')!r}: there is no image with the id {annotation.get('image_id')!r}")
            continue
        category = categories.find(annotation.get("category_id"))
        grouped.setdefault(key, []).append(annotation if category is None else annotation | {"category_id": category})
    first = next(iter(images), None)
    if stray and first is not None and not grouped:
        raise UserError(
            f"{path}: no annotation belongs to an image: the images have ids such as {first!r}, "
            f"the annotations image_ids such as {stray.get('image_id')!r}"
        )
    return grouped


def class_map(file: CocoFile, names: Mapping[int, str]) -> dict[Id, int]:
    """Return the class id of each category id, by name.

    Raises:
        UserError: annotations of categories that `names` lacks; lists them.
    """
    numbers = {name: number for number, name in sorted(names.items(), reverse=True)}  # the first of two equal names wins
    used = {read_id(annotation.get("category_id")) for image in file.images for annotation in image.annotations}
    lost = [name for key, name in file.categories.items() if key in used and name not in numbers]
    if lost:
        listed = ", ".join(f"{name!r}{nearest(name, numbers)}" for name in lost[:10])
        more = f" and {len(lost) - 10} more" if len(lost) > 10 else ""
        raise UserError(f"{file.path}: annotates categories that are not among the dataset's names: {listed}{more}")
    return {key: numbers[name] for key, name in file.categories.items() if name in numbers}


def coco_annotations(
    image: CocoImage, file: Path, classes: Mapping[Id, int], size: tuple[int, int], orientation: int = 1
) -> ImageAnnotations:
    """Convert an image's annotations; `size` is the (height, width) of the upright image, `orientation` EXIF's."""
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
    declared = image.size[::-1] if image.by_header and orientation > 4 else image.size
    x, y = (xywh[:, :2] + xywh[:, 2:]).max(0).tolist()
    frame, stored = choose_frame(declared, size, orientation, (y, x), findings)
    scale = np.array([frame[1], frame[0]], np.float64)
    low = np.clip(xywh[:, :2] / scale, 0, 1)
    high = np.clip((xywh[:, :2] + xywh[:, 2:]) / scale, 0, 1)
    boxes = np.column_stack(([classes[a["category_id"]] for a, _ in kept], (low + high) / 2, high - low))
    inside = np.asarray((boxes[:, 3:] > 0).all(1)).tolist()
    for (annotation, box), good in zip(kept, inside, strict=True):
        if not good:
            findings.drop("range", f"annotation {annotation.get('id')!r} ({image.path.name}): the box {box} lies outside the image")
    stated = [read_number(a.get("area")) for a, _ in kept]
    area = np.array([value if value and value > 0 else math.nan for value in stated]) * (size[0] * size[1] / (frame[0] * frame[1]))
    crowd = np.array([a.get("iscrowd") is True or read_number(a.get("iscrowd")) == 1 for a, _ in kept])
    polygons = [outline(a.get("segmentation"), scale) for (a, _), good in zip(kept, inside, strict=True) if good]
    return ImageAnnotations(findings, boxes[inside], polygons, area[inside], crowd[inside], stored)


def category_names(path: Path, document: Mapping[str, Any]) -> dict[Id, str]:
    """Return name by category id, in the order of the ids.

    Raises:
        UserError: a category without an id or a name, or two with the same.
    """
    entries = list(_objects(document, "categories", path))
    names: dict[Id, str] = {}
    taken: set[str] = set()
    unused = _unused_category(entries, document, path)
    for entry in entries:
        key, name = read_id(entry.get("id")), entry.get("name")
        if key is None or not isinstance(name, str):
            raise UserError(f"{path}: a category needs an id and a string name, got {entry}")
        if entry is unused:
            continue
        if key in names or name in taken:
            raise UserError(f"{path}: category {key} ({name!r}) is defined twice")
        names[key] = name
        taken.add(name)
    return {key: names[key] for key in sorted(names, key=sort_key)}


def _unused_category(entries: Sequence[Mapping[str, Any]], document: Mapping[str, Any], path: Path) -> Mapping[str, Any] | None:
    """Return the category 0 that a tool puts before the classes and never annotates.

    It is Roboflow's supercategory of all others, or LabelMe's ``_background_``.
    """
    first = next((entry for entry in entries if read_id(entry.get("id")) == 0), None)
    if first is None or len(entries) < 2:
        return None
    others = [entry.get("supercategory") for entry in entries if entry is not first]
    is_root = first.get("supercategory") in (None, "", "none") and set(map(str, others)) == {str(first.get("name"))}
    if not is_root and str(first.get("name")).strip("_").lower() != "background":
        return None
    only = Ids([0])
    used = any(only.find(annotation.get("category_id")) == 0 for annotation in _objects(document, "annotations", path, FileFindings(path)))
    return None if used else first


def coco_names(path: Path, content: bytes) -> list[str]:
    """Return the category names of a COCO file in the order of their ids.

    Raises:
        UserError: as `read_coco`.
    """
    return list(category_names(path, _load(path, content)).values())


def _locate(name: str, places: Sequence[Path], listings: FolderListings) -> Path:
    """Return the path of an image that a JSON names, in the first of `places` that has it.

    Leading folders are dropped where they are those of another machine or layout; Label Studio's ``?d=`` holds a path, and a URL may
    have a query after it.
    """
    written = name.replace("\\", "/")
    path = unquote(written.partition("?d=")[2]) or (re.split(r"[?#]", written)[0] if "://" in written else written)
    for form in (path, *tails(path)):
        for place in places:
            if found := listings.find_path(str(place), form):
                return found
        for whole in () if is_image_name(form) else (place / form for place in places):  # a name without its suffix
            if stem := listings.find_stem(str(whole.parent), whole.name):
                return whole.with_name(stem)
    return places[0] / path


def _load(path: Path, content: bytes) -> dict[str, Any]:
    try:
        try:
            document = json.loads(content)
        except UnicodeDecodeError:
            document = json.loads(decode_text(content)[0])
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


def _read_box(annotation: Mapping[str, Any], classes: Mapping[Id, int]) -> tuple[list[float], str, str]:
    """Return an annotation's x, y, width, height in pixels, and kind and description of what is wrong with it."""
    key = read_id(annotation.get("category_id"))
    if key is None or key not in classes:
        return [], "class", f"there is no category with the id {annotation.get('category_id')!r}"
    given = annotation.get("bbox")
    numbers = [read_number(value) for value in given] if isinstance(given, list) else []
    box = [value for value in numbers if value is not None]
    if not numbers or (len(numbers) == 4 == len(box) and min(box[2:]) <= 0):
        box = outline_box(annotation.get("segmentation")) or box  # a polygon or mask without a box of its own
    if len(box) != 4 or len(numbers) not in (0, 4):
        return [], "number", f"bbox {given!r:.80} is not four numbers x, y, width, height"
    if max(map(abs, box)) > _MAX_COORDINATE:
        return [], "range", f"the box {box} lies outside the image"
    return box, *(("", "") if min(box[2:]) > 0 else ("area", f"the box {box} has no area"))
