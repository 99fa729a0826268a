"""Class names: those a data YAML gives, else those the labels use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from utils.data.labels.coco import coco_names
from utils.data.labels.find_files import Item, entry_images, with_labels
from utils.data.labels.voc import class_names
from utils.data.labels.yolo import count_classes
from utils.errors import UserError
from utils.files.safe_open import read_regular

MOST_CLASSES = 65536
"""A typing slip must not fill the memory."""
_LISTS = ("classes.txt", "obj.names", "_darknet.labels")
"""Files in which labelling tools write the names, one a line."""

_MOST = 8 << 30


def check_names(path: Path, content: Mapping[str, Any]) -> tuple[dict[int, str], int | None]:
    """Return a data YAML's names by number (none when it gives none) and its nc.

    Raises:
        UserError: not a list or mapping of texts, numbers that do not run from 0 on, or another count than nc.
    """
    nc, given = content.get("nc"), content.get("names")
    if nc is not None and (isinstance(nc, bool) or not isinstance(nc, int) or not 1 <= nc <= MOST_CLASSES):
        raise UserError(f"{path}: nc: {nc!r} is not a whole number from 1 to {MOST_CLASSES}")
    if not given:
        return {}, nc
    if not isinstance(given, (list, dict)):
        raise UserError(f"{path}: names: expected a list, or a mapping of number to name, found {given!r}")
    names = dict(enumerate(given)) if isinstance(given, list) else dict(given)
    if any(isinstance(key, bool) or not isinstance(key, int) for key in names) or sorted(names) != list(range(len(names))):
        raise UserError(f"{path}: names: the numbers must run from 0 to {len(names) - 1} without a gap, found {list(names)[:20]}")
    for key, name in names.items():
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise UserError(f"{path}: names: {key} is {name!r}, not a text (quote words like yes, no, on, off and null)")
    if nc is not None and nc != len(names):
        raise UserError(f"{path}: nc is {nc}, but there are {len(names)} names; remove nc or correct one of them")
    return {key: str(names[key]) for key in sorted(names)}, nc


def names_from_labels(
    splits: Mapping[str, tuple[Path, ...]], partners: Mapping[Path, Path], source: Path, nc: int | None
) -> dict[int, str]:
    """Return the names of a data set that gives none.

    COCO files: their categories by id. VOC files: the names they use, sorted. YOLO files: ``classes.txt`` where there is one, else the
    numbers themselves.

    Raises:
        UserError: there are no labels to read them from, or not as many names as `nc`.
    """
    entries = list(dict.fromkeys(entry for chosen in splits.values() for entry in chosen))
    jsons = [entry for entry in entries if entry.suffix.lower() == ".json"]
    if jsons:
        names = list(dict.fromkeys(name for path in jsons for name in coco_names(path, _read(path))))
    else:
        items = [item for entry in entries for item in with_labels(entry_images(entry), partners.get(entry))]
        names = _from_files(items, source if source.is_dir() else source.parent, nc)
    if not names:
        raise UserError(f"{source}: no class names are given, and no labels were found to read them from")
    if nc is not None and nc != len(names):
        raise UserError(f"{source}: nc is {nc}, but the labels use {len(names)} names: {', '.join(names[:20])}")
    return dict(enumerate(names))


def _from_files(items: list[Item], root: Path, nc: int | None) -> list[str]:
    used: set[str] = set()
    for item in items:
        if item.label and item.label.suffix == ".xml":
            used |= class_names(_lenient(item.label))
    if used:
        return sorted(used)
    for listing in _listings(items, root):
        lines = [line.strip() for line in _read(listing).decode("utf-8-sig", errors="replace").splitlines()]
        return [line for line in lines if line]
    count = nc or max((count_classes(_lenient(item.label)) for item in items if item.label), default=0)
    return [str(number) for number in range(count)]


def _listings(items: list[Item], root: Path) -> Iterator[Path]:
    folders = dict.fromkeys([root, *(item.label.parent for item in items if item.label)])
    return (folder / name for folder in folders for name in _LISTS if (folder / name).is_file())


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MOST)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _lenient(label: Path) -> bytes:
    """Return a label file's content, nothing where it cannot be read: the scan of its split reports that."""
    try:
        return read_regular(label, _MOST)
    except OSError:
        return b""
