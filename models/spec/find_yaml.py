"""Finding a model YAML by name, or by the name of another size."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

from utils.config import ROOT, find_yaml
from utils.errors import UserError
from utils.files.shadowed import name_shadowed

SIZES = {"n": (0.33, 0.25), "s": (0.33, 0.50), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
"""Depth and width multiples of YOLOv5's size letters."""

_NAME = re.compile(r"(?P<family>yolov5)(?P<letter>[nsmlx]?)(?P<rest>6?(?:[-_.].*)?)")
_FOLDERS = (ROOT / "models", ROOT / "models" / "zoo")


def find_model(name: Path, folder: Path = Path()) -> tuple[Path, str | None]:
    """Find a model YAML: beside `folder`, then the path, then its name in models/ and in models/zoo/; ``.yaml`` may be left out.

    For a `folder` in models/ the working folder does not count: what ships refers to what ships. A file that has the name of a shipped
    one is named in the log.
    A name whose size letter no file has (``yolov5m-ca``) finds the file of another size (``yolov5s-ca``).

    Returns:
        The file, and the size letter to read it with, or None to read it as it is.

    Raises:
        UserError: found nowhere; lists the paths tried.
    """
    if not name.name:
        raise UserError(f"model {str(name)!r} is a folder; give a YAML file or a name such as yolov5s")
    if name.suffix not in {".yaml", ".yml"}:
        name = name.with_name(name.name + ".yaml")
    own = (folder,) if folder.resolve().is_relative_to(_FOLDERS[0]) else (folder, Path())
    folders = [place / name.parent for place in (*own, *_FOLDERS) if (place / name.parent).is_dir()]
    for candidate in (*(place / name for place in own), *(place / name for place in _FOLDERS)):
        if os.path.isfile(candidate):  # noqa: PTH113 - Path.is_file raises on a name that is too long
            name_shadowed(candidate, ROOT, *(place / name for place in _FOLDERS))
            return candidate, None
    match = _NAME.fullmatch(name.stem)
    if match is not None and match["letter"]:
        for letter in (*(s for s in "snmlx" if s != match["letter"]), ""):
            sibling = f"{match['family']}{letter}{match['rest']}{name.suffix}"
            for place in folders:
                if os.path.isfile(place / sibling):  # noqa: PTH113
                    return place / sibling, match["letter"]
    return find_yaml(name, folder, *_FOLDERS, hints=partial(_sized, match["letter"] if match else "")), None


def _sized(letter: str, name: str) -> str:
    """The name of the same model in another size, where both have one."""
    return re.sub(r"^yolov5[nsmlx](?![a-z])", f"yolov5{letter}", name) if letter else name


def resize(content: dict[str, Any], letter: str) -> dict[str, Any]:
    """Return a YAML's content for another size: with its base's letter changed, or its multiples."""
    base = content.get("base")
    if not isinstance(base, str):
        depth, width = SIZES[letter]
        return {**content, "depth_multiple": depth, "width_multiple": width}
    path = Path(base)
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise UserError(f"its base {base!r} has no size letter to change to {letter!r}")
    sized = f"{match['family']}{letter}{match['rest']}{path.suffix}"
    return {key: value for key, value in content.items() if key not in {"depth_multiple", "width_multiple"}} | {
        "base": str(path.with_name(sized))
    }
