"""Class names: from the data YAML, else from the labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.data.labels.coco import coco_names
from utils.data.labels.coco_ids import read_id
from utils.data.labels.find_files import entry_images, stray_labels, with_labels
from utils.data.labels.image_lists import read_source
from utils.data.labels.voc import class_names
from utils.data.labels.yolo import count_classes
from utils.errors import UserError
from utils.files.encodings import read_text
from utils.files.safe_open import read_regular

MAX_CLASSES = 65536
"""Bounds the memory that a mistyped nc takes."""
_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt")
"""Files in which labelling tools write the names, one a line."""

_MAX_BYTES = 8 << 30


def check_names(path: Path, content: Mapping[str, Any]) -> tuple[dict[int, str], int | None]:
    """Return a data YAML's names by class id (empty without names) and its nc.

    Raises:
        UserError: not a list or mapping of strings, ids that are not 0, 1, 2, ..., or another count than nc.
    """
    nc, given = content.get("nc"), content.get("names")
    if nc is not None and (isinstance(nc, bool) or not isinstance(nc, int) or not 1 <= nc <= MAX_CLASSES):
        raise UserError(f"{path}: nc: {nc!r} is not an integer from 1 to {MAX_CLASSES}")
    if not given:
        return {}, nc
    if not isinstance(given, (list, dict)):
        raise UserError(f"{path}: names: expected a list, or a mapping of class id to name, got {given!r}")
    names = dict(enumerate(given)) if isinstance(given, list) else {_class_id(key): name for key, name in given.items()}
    if len(names) < len(given) or any(type(key) is not int for key in names) or sorted(names) != list(range(len(names))):
        raise UserError(f"{path}: names: the class ids must be 0 to {len(names) - 1} without a gap, got {list(names)[:20]}")
    for key, name in names.items():
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise UserError(f"{path}: names: {key} is {name!r}, not a string (quote words like yes, no, on, off and null)")
    if nc is not None and nc != len(names):
        raise UserError(f"{path}: nc is {nc}, but there are {len(names)} names; remove nc or correct one of them")
    return {key: str(names[key]) for key in sorted(names)}, nc


def _class_id(key: Any) -> Any:
    """Return the number that a key means, whether as 1, 1.0 or "1"; any other key as it is."""
    found = read_id(key)
    return int(found) if isinstance(found, str) and found.isascii() and found.isdecimal() else key if found is None else found


def names_from_labels(
    splits: Mapping[str, tuple[Path, ...]], partners: Mapping[Path, Path], source: Path, nc: int | None
) -> dict[int, str]:
    """Return the class names of a dataset without `names`.

    COCO files: their categories by id. VOC files: the names they use, sorted. YOLO files: ``classes.txt`` where there is one, else the
    class ids.

    Raises:
        UserError: there are no labels to read them from, or their number differs from `nc`.
    """
    entries = list(dict.fromkeys(entry for chosen in splits.values() for entry in chosen))
    jsons = [entry for entry in entries if entry.suffix.lower() == ".json"]
    if jsons:
        names = list(dict.fromkeys(name for path in jsons for name in coco_names(path, read_source(path, _MAX_BYTES))))
        if not names:
            raise UserError(f"{jsons[0]}: has no categories, so its annotations have no class names; add them to it")
    else:
        images = [image for entry in entries for image in with_labels(entry_images(entry)[0], partners.get(entry))]
        labels = [image.label for image in images if image.label]
        names = _from_files(labels, source if source.is_dir() else source.parent, nc)
        if not names:
            strays = stray_labels(images)
            hint = f"; {min(strays)} belongs to no image: a label file is named as its image" if strays else ""
            raise UserError(f"{source}: no class names are given, and no labels were found to read them from{hint}")
    if nc is not None and nc != len(names):
        raise UserError(f"{source}: nc is {nc}, but the labels use {len(names)} names: {', '.join(names[:20])}")
    return dict(enumerate(names))


def _from_files(labels: list[Path], root: Path, nc: int | None) -> list[str]:
    used: set[str] = set()
    for label in labels:
        if label.suffix.lower() == ".xml":
            used |= class_names(_read_lenient(label))
    if used:
        return sorted(used)
    for folder in dict.fromkeys([root, *(label.parent for label in labels)]):
        for path in (*(folder / name for name in _LISTS), *sorted(folder.glob("*.names"))):
            if path.is_file():
                return read_names(path)
    count = nc or max((count_classes(_read_lenient(label)) for label in labels), default=0)
    return [str(number) for number in range(count)]


def read_names(path: Path) -> list[str]:
    """Return the names in a list, one a line.

    Raises:
        UserError: it cannot be read.
    """
    text = read_text(path, read_source(path, _MAX_BYTES))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read_lenient(label: Path) -> bytes:
    """Return a label file's content, empty where it cannot be read, which the scan of its split reports."""
    try:
        return read_regular(label, _MAX_BYTES)
    except OSError:
        return b""
