"""Anchors of a model YAML."""

from __future__ import annotations

import math
from typing import Any

from utils.errors import UserError

Anchors = int | tuple[tuple[float, ...], ...]
"""Per level the widths and heights in pixels, flattened; or how many a level gets."""


def parse_anchors(value: Any, where: str) -> Anchors:
    """Check anchors: a number per level, or a list of levels, each w, h pairs in pixels, flattened or not.

    Raises:
        UserError: of another form, not positive, or levels of different counts.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= 100:
            raise UserError(f"{where}: 'anchors' is 1 to 100 per level, not {value}")
        return value
    form = f"{where}: 'anchors' is a number per level or a list of levels, each a list of w, h pairs in pixels"
    if not isinstance(value, list | tuple) or not value or not all(isinstance(level, list | tuple) and level for level in value):
        raise UserError(f"{form}, not {value!r}")
    flat = tuple(tuple(side for pair in level for side in (pair if isinstance(pair, list | tuple) else (pair,))) for level in value)
    for level, sides in enumerate(flat):
        numbers = all(isinstance(s, int | float) and not isinstance(s, bool) and math.isfinite(s) and s > 0 for s in sides)
        if not numbers or len(sides) % 2:
            raise UserError(f"{form}; level {level} is {list(sides)}")
        if len(sides) != len(flat[0]):
            raise UserError(f"{where}: every level needs as many anchors; level 0 has {len(flat[0]) // 2}, level {level} {len(sides) // 2}")
    return flat
