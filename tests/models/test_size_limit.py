"""A line of YAML that asks for more than any machine has is refused before anything is allocated."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from models import build_model
from utils.errors import UserError

HEAD = [[[0, 0, 0], 1, "Detect", ["nc", "anchors"]]]


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB


@pytest.mark.parametrize(
    "row",
    [
        [-1, 1, "Conv", [65000, 3000]],
        [-1, 1, "Conv", [64, 10**6]],
        [-1, 1, "Conv", [65536, 65535]],
        [-1, 1, "HorNet", [64, [1000, 10000, 1000, 1000]]],
        [-1, 1, "CoTNet", {"depths": [100000, 1, 1, 1]}],
        [-1, 1000, "C3", [64]],
        [-1, 1, "C3", [65536]],
    ],
    ids=str,
)
def test_too_large(row: list[Any]) -> None:
    before = peak()
    with pytest.raises(UserError):
        build_model({"nc": 2, "anchors": 3, "depth_multiple": 100, "backbone": [row], "head": HEAD})
    assert peak() - before < 3_000_000


def test_says_which_row() -> None:
    with pytest.raises(UserError, match=r"row 0 \(Conv\): asks for more than 536870912 weights"):
        build_model({"nc": 2, "anchors": 3, "backbone": [[-1, 1, "Conv", [65000, 3000]]], "head": HEAD})
