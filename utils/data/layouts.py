"""Find the splits of a folder that has no data YAML, in the layouts that label tools export.

darknet's ``*.data`` (CVAT, Datumaro), lists ``train.txt``, VOC's ``ImageSets/Main``, folders called train, val and test (also below
``images/``), and COCO JSONs in them, beside them, or in ``annotations/``. Label files come before a JSON where a folder has both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.data.labels.find_files import entry_images, with_labels
from utils.data.labels.image_lists import find_image, read_list, read_source
from utils.data.labels.match_names import FolderListings
from utils.errors import UserError

SPLITS = ("train", "val", "test")
Splits = dict[str, tuple[Path, ...]]

_SPLIT_NAME = re.compile(r"(?<![a-z])(?:(trainval|train(?:ing)?)|(val(?:id(?:ation)?)?)|(test(?:ing)?))(?![a-z])")
_NO_BOXES = ("captions_", "stuff_", "panoptic_", "image_info_")
"""COCO's files without boxes of things."""

_COCO = re.compile(rb'"images"\s*:\s*\[')
_MAX_JSON_BYTES = 8 << 30
_MANY_JSONS = 20
"""With more JSON files than this, a folder has one for each image, as LabelMe writes them."""

_FOREIGN = (
    ("LabelMe", rb'"shapes"\s*:'),
    ("Datumaro", rb'"(?:dm_format_version|items)"\s*:'),
    ("VoTT", rb'"(?:assets?|securityToken)"\s*:'),
    ("VGG Image Annotator", rb'"(?:_via_img_metadata|regions)"\s*:'),
    ("Label Studio", rb'"(?:completed_by|total_annotations|lead_time)"\s*:'),
    ("CVAT", rb"<annotations>"),
)
"""What the own formats of some tools contain."""


def folder_splits(folder: Path) -> Splits:
    """Return the entries of each split of a folder; where it has no splits, the folder or its one JSON serves as all of them.

    Raises:
        UserError: a split that has several COCO files.
    """
    for find in (_darknet_lists, _voc_lists, _folders):
        if splits := find(folder):
            return splits
    if has_labels(folder):
        return dict.fromkeys(SPLITS, (folder,))
    return _jsons(folder) or dict.fromkeys(SPLITS, (folder,))


def json_instead(folder: Path, split: str) -> Path | None:
    """Return the COCO file in a folder of images that have no label files.

    Raises:
        UserError: it has several.
    """
    files = _coco_files([folder, folder / "annotations"])
    return _only(folder, split, files) if files and not has_labels(folder) else None


def unused_json(folder: Path) -> str:
    """Return how to use a COCO file that lies above or beside a folder of images without labels; "" without one."""
    for place in (folder, folder.parent, folder.parent.parent):
        for path in _coco_files([place, place / "annotations"])[:1]:
            return f"; to use {path}, name it in a data YAML: {{images: {folder}, annotations: {path}}}"
    return ""


def has_labels(folder: Path) -> bool:
    """Whether an image in a folder, or below it, has a label file."""
    return any(image.label for image in with_labels(entry_images(folder)[0]))


def foreign_labels(folder: Path) -> str:
    """Return which tool's own files a folder holds, and what to do; "" without any."""
    files = (path for pattern in ("*.json", "*/*.json", "annotations.xml") for path in sorted(folder.glob(pattern))[:_MANY_JSONS])
    for path in files:
        content = read_source(path, _MAX_JSON_BYTES)[: 1 << 16]
        for tool, pattern in _FOREIGN:
            if re.search(pattern, content):
                return f"{path.name} is in {tool}'s own format, which is not read; export or convert it to YOLO, COCO or Pascal VOC"
    return ""


def _split_of(name: str) -> str | None:
    """Return the split that a name of a folder or file states: "Train", "instances_val2017", "test"."""
    found = _SPLIT_NAME.search(name.lower())
    return SPLITS[(found.lastindex or 1) - 1] if found else None


def _darknet_lists(folder: Path) -> Splits:
    """``train = data/train.txt`` and ``valid = ...`` in a file ``*.data``; else lists that are called so."""
    listings = FolderListings()
    splits: Splits = {}
    for file in sorted(folder.glob("*.data")):
        for line in read_source(file, 1 << 20).decode("utf-8-sig", errors="replace").splitlines():
            key, _, value = map(str.strip, line.partition("="))
            split, found = _split_of(key), find_image(value, str(folder), listings) if value else None
            if split and found and found.suffix == ".txt":
                splits[split] = (found,)
    for file in () if splits else sorted(folder.glob("*.txt")):
        if _SPLIT_NAME.fullmatch(file.stem.lower()) and any(map(os.path.exists, read_list(file)[:1])):
            splits[_split_of(file.stem) or ""] = (file,)
    return splits if len(splits) != 1 else dict.fromkeys(SPLITS, *splits.values())


def _voc_lists(folder: Path) -> Splits:
    """Lists of whole splits, else those of a class each (VoTT: ``cat_train.txt``)."""
    lists = [path for above in ("", "*/", "*/*/") for path in sorted(folder.glob(f"{above}ImageSets/Main/*.txt"))]
    whole = [path for path in lists if _SPLIT_NAME.fullmatch(path.stem.lower())]
    chosen = whole or [path for path in lists if _split_of(path.stem)] or lists
    splits = {split: tuple(p for p in chosen if _split_of(p.stem) == split) for split in SPLITS}
    if narrow := tuple(path for path in splits["train"] if path.stem.lower() != "trainval"):
        splits["train"] = narrow if splits["val"] else splits["train"]
    splits = {split: paths for split, paths in splits.items() if paths}
    return splits if len(splits) > 1 or not chosen else dict.fromkeys(SPLITS, tuple(chosen))


def _folders(folder: Path) -> Splits:
    """``train/`` as well as ``images/train/``, each with its label files or its COCO JSON."""
    splits: Splits = {}
    for parent in (folder, folder / "images"):
        for path in sorted(parent.glob("*/")):
            split = _split_of(path.name) if _SPLIT_NAME.fullmatch(path.name.lower().rstrip("0123456789_-")) else None
            if split and split not in splits:
                splits[split] = (path,)
    beside = None
    for split, (path,) in splits.items():
        if own := json_instead(path, split):
            splits[split] = (own,)
        if own or has_labels(path):
            continue
        beside = _jsons(folder, together=False) if beside is None else beside
        splits[split] = beside.get(split, (path,))
    return splits


def _jsons(folder: Path, *, together: bool = True) -> Splits:
    """Return the COCO files of a folder by the split in their names; `together` lets a single one serve as every split."""
    files = _coco_files([folder, folder / "annotations", folder / "Annotations"])
    named = {split: [path for path in files if _split_of(path.stem) == split] for split in SPLITS}
    splits: Splits = {}
    for split, paths in named.items():
        if found := _only(folder, split, paths):
            splits[split] = (found,)
    if not splits and (found := _only(folder, "each split", files)):
        splits = {"train": (found,)}
    return splits if len(splits) != 1 or not together else dict.fromkeys(SPLITS, *splits.values())


def _coco_files(folders: Iterable[Path]) -> list[Path]:
    found = []
    for folder in folders:
        files = sorted(folder.glob("*.json"))
        boxes = [path for path in files if not path.name.startswith(_NO_BOXES)] if len(files) <= _MANY_JSONS else []
        found += [path for path in boxes if _COCO.search(read_source(path, _MAX_JSON_BYTES))]
    instances = [path for path in found if path.name.startswith("instances_")]
    return instances or found


def _only(folder: Path, split: str, files: Sequence[Path]) -> Path | None:
    if len(files) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in files)
        hint = f"'train: {{images: IMAGES, annotations: {files[0].name}}}'"
        raise UserError(f"{folder}: has several COCO files for {split}: {names}; write a data YAML that names one, as in {hint}")
    return files[0] if files else None
