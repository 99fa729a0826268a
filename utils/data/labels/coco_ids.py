"""The ids and numbers of a COCO JSON, whatever kind a tool writes them in: 1, 1.0 and "1" are the same where one thing only has it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

Id = int | str

_MAX_ID = (1 << 63) - 1
"""Ids are at most 64 bits: larger numbers can all have one hash, and looking each of them up would take quadratic time."""

_DIGITS = re.compile(r"([0-9]{1,18})(?:\.0*)?")
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


class Ids:
    """The ids of images or of categories, to find the one that an annotation means."""

    def __init__(self, ids: Iterable[Id]) -> None:
        self._ids = dict.fromkeys(ids)
        self._alike: dict[Id, list[Id]] = {}
        for key in self._ids:
            self._alike.setdefault(_plain(key), []).append(key)

    def __iter__(self) -> Iterator[Id]:
        return iter(self._ids)

    def find(self, value: Any) -> Id | None:
        """Return the id that `value` equals; else the only one that is the same number ("1", "0001", 1.0); else None."""
        key = read_id(value)
        if key is None:
            return None
        if key in self._ids:
            return key
        alike = self._alike.get(_plain(key), [])
        return alike[0] if len(alike) == 1 else None


def read_id(value: Any) -> Id | None:
    """Return an id as an int of at most 64 bits or a str; None for what is no id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_ID):
        return value
    return None


def sort_key(key: Id) -> tuple[bool, int, str]:
    """Order ids by number; those that are none follow by name."""
    plain = _plain(key)
    return (False, plain, "") if isinstance(plain, int) else (True, 0, plain)


def _plain(key: Id) -> Id:
    digits = _DIGITS.fullmatch(key) if isinstance(key, str) else None
    return int(digits[1]) if digits else key


def read_number(value: Any) -> float | None:
    """Return a finite number, also one that is written as text; None for anything else."""
    if isinstance(value, str) and len(value) < 400 and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    return None
