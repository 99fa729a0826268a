"""The model YAML in a checkpoint of YOLOv8, YOLO11 or YOLOv5u, with what their programs do to it when they build a model."""

from __future__ import annotations

import math
from typing import Any

from utils.errors import UserError

KEYS = ("nc", "scale", "scales", "depth_multiple", "width_multiple", "backbone", "head", "activation", "ch")
_WITHOUT_WIDTH = ("nn.Upsample", "Concat", "Detect")
_LARGE = ("m", "l", "x")
"""Sizes in which all C3k2 of YOLO11 have C3k inside."""


def anchor_free(content: dict[str, Any], where: str) -> dict[str, Any]:
    """The YAML's content as that of a model here: the multiples of its scale, widths up to the scale's largest, the head's name here.

    Raises:
        UserError: no scale of that name, or not three numbers.
    """
    scale = content.get("scale", "")
    scales = content.get("scales") or {scale: [content.get("depth_multiple", 1.0), content.get("width_multiple", 1.0), math.inf]}
    try:
        depth, width, largest = map(float, scales[scale])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: its model YAML has no scale {scale!r} of three numbers") from error
    rows = [row for part in ("backbone", "head") for row in content.get(part) or ()]
    light = any(isinstance(row, list) and "C3k2" in row[2:3] for row in rows)
    own = {part: [_row(row, largest, scale in _LARGE, light) for row in content.get(part) or ()] for part in ("backbone", "head")}
    kept: dict[str, Any] = {key: content[key] for key in ("nc", "activation", "ch") if key in content}
    return {**kept, "depth_multiple": depth, "width_multiple": width, **own}


def _row(row: Any, largest: float, large: bool, light: bool) -> Any:
    """A row; one of another form is left to the check of the whole YAML."""
    if not (isinstance(row, list) and len(row) == 4 and isinstance(row[3], list)):
        return row
    source, repeats, name, args = row
    if name == "Detect":
        return [source, repeats, "DetectDFL", ["nc", 16, True] if light else ["nc"]]
    if name in _WITHOUT_WIDTH or not args or type(args[0]) is not int:
        return row
    args = [int(min(args[0], largest)), *args[1:]]
    return [source, repeats, name, [args[0], True, *args[2:]] if name == "C3k2" and large else args]
