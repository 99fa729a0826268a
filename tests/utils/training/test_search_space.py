"""--space: what a search may change."""

from __future__ import annotations

import dataclasses

import pytest

from utils.config import Hyp
from utils.errors import UserError
from utils.training.search_space import BOUNDS, Bounds, SearchConfig, read_space


def test_names_with_known_and_own_bounds() -> None:
    space = read_space(["momentum", "lr0=1e-4:0.1:log", "anchors=2:10"])
    assert space == {"momentum": BOUNDS["momentum"], "lr0": Bounds(1e-4, 0.1, log=True), "anchors": Bounds(2, 10)}
    assert [str(b) for b in space.values()] == ["0.6:0.98", "0.0001:0.1:log", "2:10"]
    assert tuple(read_space(())) == ("lr0", "weight_decay", "warmup_epochs")
    assert read_space(["all"]) == BOUNDS


def test_known_bounds_are_valid_values() -> None:
    for name, bounds in BOUNDS.items():
        for value in (bounds.low, bounds.high):
            dataclasses.replace(Hyp(), **{name: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", r"unknown hyper-parameter 'lr'; did you mean 'lr[0f]'\?"),
        ("anchors", "anchors has no known bounds; give them, as in anchors=2:10"),
        ("box_loss", "box_loss is not a number; compare its values as arms of compare.py"),
        ("lr0=", "expected NAME=LOW:HIGH or NAME=LOW:HIGH:log"),
        ("lr0=1", "expected NAME=LOW:HIGH"),
        ("lr0=0.1:0.01", "with LOW below HIGH"),
        ("lr0=0.1:inf", "expected NAME=LOW:HIGH"),
        ("lr0=nan:1", "expected NAME=LOW:HIGH"),
        ("lr0=0.1:1:lin", "expected NAME=LOW:HIGH"),
        ("lr0=0:1:log", "a logarithmic range begins above 0"),
        ("fliplr=0:2", "outside 0 to 1, which is valid"),
        ("lr0=-1:1", "outside 0 to inf, which is valid"),
    ],
)
def test_invalid_spaces(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SearchConfig(tune=3, space=(text,))


def test_flags_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="one search; give one of them"):
        SearchConfig(tune=3, evolve=3)
    with pytest.raises(UserError, match="--space says what to search; it needs --tune N or --evolve N"):
        SearchConfig(space=("lr0",))
    with pytest.raises(UserError, match="--tune must be >= 0"):
        SearchConfig(tune=-1)
