"""Plain data as typed values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest

from utils.files.plain_data import typed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    number: int
    share: float
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
    parts: Mapping[str, Part]
    limit: float | None = None
    on: bool = False


def test_nested_data():
    found = typed(Whole, {"parts": {"a": {"number": 1, "share": None, "names": ["x", "y"]}}, "limit": None})
    assert (found.limit, found.on, found.parts["a"].number, found.parts["a"].names) == (None, False, 1, ("x", "y"))
    assert math.isnan(found.parts["a"].share)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([], r"it is \[\]"),
        ({}, "'parts' is missing"),
        ({"parts": {}, "other": 1}, "'other' is unknown"),
        ({"parts": []}, r"parts is \[\]"),
        ({"parts": {1: {}}}, "parts is"),
        ({"parts": {"a": {"number": "1", "share": 0.5}}}, "number is '1'"),
        ({"parts": {"a": {"number": True, "share": 0.5}}}, "number is True"),
        ({"parts": {"a": {"number": 1 << 70, "share": 0.5}}}, "number is"),
        ({"parts": {"a": {"number": 1, "share": 1 << 5000}}}, "share is"),
        ({"parts": {"a": {"number": 1, "share": 0.5, "names": "xy"}}}, "names is 'xy'"),
        ({"parts": {"a": {"number": 1, "share": 0.5, "names": ["x", 3]}}}, r"names\[1\] is 3"),
        ({"parts": {}, "limit": "3"}, "limit is '3'"),
        ({"parts": {}, "on": 1}, "on is 1"),
    ],
)
def test_anything_else_is_refused(content: Any, what: str):
    with pytest.raises(TypeError, match=what):
        typed(Whole, content)
