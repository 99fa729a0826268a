"""Datasets: a YAML, a COCO JSON, or a folder, resolved to the images of each split and to class names."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from utils.config import ROOT, find_yaml
from utils.data.labels.class_names import check_names, names_from_labels
from utils.data.labels.match_names import FolderListings
from utils.data.layouts import SPLITS, folder_splits, foreign_labels, has_labels, json_instead
from utils.errors import UserError, nearest
from utils.files.yaml_file import read_yaml
from utils.log import LOG

KEYS = ("path", *SPLITS, "names", "nc", "kpt_shape", "download", "sha256")

_OTHER_WORDS = {"valid": "val", "validation": "val", "testing": "test", "training": "train"}
"""What darknet, Roboflow and FiftyOne call splits."""
_HOLD_OUT = "hold some of those to train on out with: python -m utils.data.holdout DATA"


@dataclasses.dataclass(frozen=True, slots=True)
class DataConfig:
    """A dataset.

    Attributes:
        yaml: the YAML, JSON or folder it was read from.
        root: the folder its paths are relative to.
        names: class names by id, 0 to nc - 1.
        splits: the folders, .txt lists and COCO .json files of "train", "val" and "test", as far as they exist.
        partners: the image folder of a .json, or the label folder of a folder or list, where the dataset names one.
        absent: for each missing split that the dataset names, the error message with the paths tried.
        keypoints: number of columns that key points take in a YOLO label file, after the box; 0 for none.
    """

    yaml: Path
    root: Path
    names: dict[int, str]
    splits: dict[str, tuple[Path, ...]]
    partners: dict[Path, Path] = dataclasses.field(default_factory=dict)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    keypoints: int = 0

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)

    def entries(self, split: str) -> tuple[Path, ...]:
        """Return the folders, lists and JSON files of a split.

        Raises:
            UserError: the dataset does not name the split, or it is missing.
        """
        if split in self.splits:
            return self.splits[split]
        raise UserError(self.absent.get(split) or f"{self.yaml}: there is no split '{split}' (it has {', '.join(self.splits)})")


def is_dir(path: Path) -> bool:
    """Whether a folder exists; unlike `Path.is_dir`, it does not raise for invalid paths (too long, a NUL in it, "~nobody")."""
    return os.path.isdir(path)  # noqa: PTH112


def load_data(source: str | Path, *, complete: bool = True) -> DataConfig:
    """Resolve a dataset.

    Args:
        source: a data YAML (also looked for in the repository's data/), a COCO .json, which then serves as every split, or a folder:
            with one YAML in it, which is read; else in a layout of `folder_splits`. Without val, test serves as val.
        complete: False takes the dataset as it is: nothing is downloaded, no split replaces another, and any may be missing.

    Raises:
        UserError: not found, invalid, or without its validation images; the message lists every path tried.
    """
    path = Path(source)
    if is_dir(path):
        yamls = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
        if len(yamls) > 1:
            raise UserError(f"{path}: has several YAML files ({', '.join(y.name for y in yamls)}); name one of them")
        return _from_yaml(yamls[0], complete) if yamls else _from_folder(path, complete)
    if path.suffix.lower() == ".json":
        if not os.path.isfile(path):  # noqa: PTH113
            raise UserError(f"no file {str(path)!r}")
        return _named(DataConfig(path, path.parent, {}, dict.fromkeys(SPLITS, (path,))))
    if path.suffix.lower() not in (".yaml", ".yml"):
        packed = "; unpack it first" if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z") else ""
        raise UserError(f"{path}: {'' if os.path.lexists(path) else 'not found; '}a dataset is a .yaml, a COCO .json, or a folder{packed}")
    return _from_yaml(find_yaml(path, ROOT / "data", ROOT), complete)


def _from_folder(path: Path, complete: bool) -> DataConfig:
    data = DataConfig(path, path, {}, folder_splits(path))
    try:
        return _named(_with_val(data) if complete else data)
    except UserError as error:
        if hint := foreign_labels(path):
            raise UserError(f"{error}; {hint}") from error
        raise


def _with_val(data: DataConfig) -> DataConfig:
    """Let test serve as val where val is missing."""
    if "val" in data.splits or "val" in data.absent:
        return data
    if "test" not in data.splits:
        raise UserError(data.absent.get("test") or f"{data.yaml}: needs 'val' (or 'test'): the images to validate on; {_HOLD_OUT}")
    LOG.info("%s: no val split; test serves as val", data.yaml)
    return dataclasses.replace(data, splits={**data.splits, "val": data.splits["test"]})


def _named(data: DataConfig, nc: int | None = None) -> DataConfig:
    return data if data.names else dataclasses.replace(data, names=names_from_labels(data.splits, data.partners, data.yaml, nc))


def _from_yaml(path: Path, complete: bool) -> DataConfig:
    written = read_yaml(path)
    content = {key if (usual := _OTHER_WORDS.get(key, key)) in written else usual: value for key, value in written.items()}
    _check_keys(path, content)
    names, nc = check_names(path, content)
    root = content.get("path")
    if root is not None and not isinstance(root, str):
        raise UserError(f"{path}: path: {root!r} is not a folder")
    own = os.path.expanduser(root or ".")  # noqa: PTH111
    bases = (path.parent, Path.cwd()) if root else (path.parent,)  # first choice first
    places = list(dict.fromkeys(_spelled(base, own) for base in bases))
    data = _resolve(path, content, places)
    if complete and "val" in data.absent and content.get("download"):
        from utils.data.download import fetch  # network code is imported only where needed

        fetch(content["download"], places[0], content.get("sha256"), path)
        data = _resolve(path, content, places)
    data = dataclasses.replace(data, names=names, keypoints=_keypoint_columns(path, content.get("kpt_shape")))
    if complete:
        data = _with_val(data)
        if "val" in data.absent:
            raise UserError(data.absent["val"])
    return _named(data, nc)


def _check_keys(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse keys that are nearly a known one, as mistyped; log others, which belong to other tools."""
    foreign = []
    known = tuple(key for key in KEYS if key != "nc")
    for key in content:
        if key in KEYS:
            continue
        hint, low = nearest(key, KEYS), str(key).lower()
        if hint and (get_close_matches(low, known, cutoff=0.75) or low.startswith(known)):
            raise UserError(f"{path}: unknown key {key!r}{hint}")
        foreign.append(str(key))
    if foreign:
        LOG.warning("%s: ignored keys: %s", path, ", ".join(foreign))


def _keypoint_columns(path: Path, shape: Any) -> int:
    """Return the number of columns of ``kpt_shape: [points, 2 or 3]``."""
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or any(type(n) is not int for n in shape) or shape[0] < 1 or shape[1] not in (2, 3):
        raise UserError(f"{path}: kpt_shape: {shape!r} is not [number of key points, 2 or 3 for x, y or x, y, visible]")
    return int(shape[0] * shape[1])


def _resolve(path: Path, content: Mapping[str, Any], places: list[Path]) -> DataConfig:
    """Find the splits that exist; the root is the first of `places` that exists."""
    root = next(filter(is_dir, places), places[0])
    bases = list(dict.fromkeys([*filter(is_dir, places), *places, path.parent, Path.cwd()]))
    splits: dict[str, tuple[Path, ...]] = {}
    partners: dict[Path, Path] = {}
    absent: dict[str, str] = {}
    for split in SPLITS:
        if not content.get(split):
            continue
        found: list[Path] = []
        for main, partner in _split_entries(path, split, content[split]):
            here, tried = _find(main, bases)
            beside, tried_too = _find(partner, bases) if partner else (None, [])
            if here is None and beside and content.get("names") and main.lower().endswith(".json") and has_labels(beside):
                LOG.info("%s: %s: %s is not there; the label files of %s are read instead", path, split, main, beside)
                here, beside, partner = beside, None, None
            if here is None or (partner and beside is None):
                missed, places_tried = (main, tried) if here is None else (partner, tried_too)
                absent[split] = f"{path}: {split}: {missed} not found; tried {', '.join(map(str, places_tried))}"
                break
            own = json_instead(here, split) if partner is None and is_dir(here) else None
            found.append(own or here)
            if beside:
                partners[here] = beside
        else:
            splits[split] = tuple(found)
    return DataConfig(path, root, {}, splits, partners, absent)


def _split_entries(path: Path, split: str, value: Any) -> Iterator[tuple[str, str | None]]:
    """Yield the path of each entry and that of its partner: (folder or list or .json, label or image folder or None)."""
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str):
            yield entry, None
        elif isinstance(entry, dict) and entry.keys() == {"images", "annotations"} and all(isinstance(v, str) for v in entry.values()):
            images, annotations = entry["images"], entry["annotations"]
            yield (annotations, images) if annotations.lower().endswith(".json") else (images, annotations)
        else:
            raise UserError(f"{path}: {split}: {entry!r} is not a path, nor a mapping of 'images' and 'annotations' to paths")


def _find(entry: str, bases: list[Path]) -> tuple[Path | None, list[Path]]:
    """Return the first existing path of an entry, and all paths tried. Roboflow's ``../train/images`` means ``train/images``."""
    relative = Path(os.path.expanduser(entry))  # noqa: PTH111
    forms = [relative, Path(entry[3:])] if entry.startswith(("../", "..\\")) else [relative]
    tried = list(dict.fromkeys(base / form for form in forms for base in bases))
    return next(filter(os.path.exists, (*tried, *(_spelled(base, str(form)) for form in forms for base in bases))), None), tried


def _spelled(base: Path, relative: str) -> Path:
    """Return a path below `base`, as the file system spells it where it exists in another spelling only, or with Windows' backslashes."""
    for form in dict.fromkeys((relative, relative.replace("\\", "/"))):
        path = base / form
        if os.path.exists(path):  # noqa: PTH110 - Path's may raise
            return path
        if found := FolderListings().find_path(str(base), form):
            return found
    return base / relative
