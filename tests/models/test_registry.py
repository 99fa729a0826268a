"""Names, rules and the messages of the registry."""

from __future__ import annotations

import pytest
from torch import nn

from models import list_modules, registry
from models.registry import LayerPlan, Row, Scale, Width, lookup, register
from utils.errors import UserError


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Entry]:
    """A registry of the test's own."""
    list_modules()
    own = dict(registry._ENTRIES)
    monkeypatch.setattr(registry, "_ENTRIES", own)
    return own


def row(*args: object, repeats: int = 1, sources: tuple[int, ...] = (0,)) -> Row:
    return Row(1, sources, repeats, "X", args, "1")


HALF = Scale(depth=0.33, width=0.5, outputs=255)


@pytest.mark.parametrize(("nominal", "real"), [(64, 32), (1024, 512), (255, 255), (100, 56), (1, 8)])
def test_widths_are_scaled_to_a_multiple_of_eight_and_outputs_are_not(nominal: int, real: int) -> None:
    assert HALF.channels(nominal) == real


@pytest.mark.parametrize(("repeats", "depth", "real"), [(1, 0.33, 1), (3, 0.33, 1), (6, 0.33, 2), (9, 0.33, 3), (3, 1.33, 4), (2, 0.1, 1)])
def test_repeats_are_rounded_and_at_least_one(repeats: int, depth: float, real: int) -> None:
    assert Scale(depth=depth).repeats(repeats) == real


def test_rules() -> None:
    assert registry.preserve(row(16, repeats=3), [32], Scale()) == LayerPlan((32, 16), 32, 3)
    assert registry.project(row(64, 3, 2, repeats=6), [16], HALF) == LayerPlan((16, 32, 3, 2), 32, 2, (32, 32, 3, 2))
    assert registry.stack(row(64, False, repeats=9), [16], HALF) == LayerPlan((16, 32, 3, False), 32)
    assert registry.concat(row(1, sources=(0, 0)), [16, 32], HALF) == LayerPlan((1,), 48)
    assert registry.untouched(row(None, 2), [16], HALF) == LayerPlan((None, 2), 16)
    assert registry.levels(row(80, 3, sources=(0, 0)), [16, 32], HALF) == LayerPlan(((16, 32), 80, 3), 0)
    assert registry.pyramid(lambda channels, base: (base, 2 * base))(row(8), [3], HALF) == LayerPlan((3, 8), (8, 16))


@pytest.mark.parametrize(
    ("args", "rest"),
    [((64,), ()), ((64, 64), ()), ((64, 16), (16,)), ((16,), (16,)), ((16, 64), (16, 64)), ((0.5, 64), (0.5, 64)), ((True,), (True,))],
)
def test_a_row_may_repeat_its_nominal_width(args: tuple[object, ...], rest: tuple[object, ...]) -> None:
    assert registry.preserve(row(*args, repeats=6), [32], HALF) == LayerPlan((32, *rest), 32, 2)


@pytest.mark.parametrize(
    ("rule", "args", "inputs", "says"),
    [
        (registry.project, (), [16], "output width, is missing"),
        (registry.project, ("64",), [16], "positive integer, not '64'"),
        (registry.project, (0,), [16], "positive integer, not 0"),
        (registry.project, (True,), [16], "positive integer, not True"),
        (registry.preserve, (), [16, 16], "takes one input, but 'from' gives 2"),
        (registry.preserve, (), [(16, 32)], r"which has 2 outputs; pick one with \[0, 1, Feature, \[0\]\]"),
        (registry.preserve, (128,), [32], "its first argument repeats the width of its input: 128 is 64 here, not 32"),
        (registry.preserve, (64, 128), [32], "its second argument repeats the width of its input: 128 is 64 here, not 32"),
        (registry.preserve, (64, 64, 3), [32], "its width is given twice, so 3 and what follows are in the order of another constructor"),
        (registry.preserve, (32,), [16], "its first argument, 32, is the width of its input, which needs no argument"),
    ],
)
def test_rules_name_what_does_not_fit(rule: registry.Rule, args: tuple[object, ...], inputs: list[Width], says: str) -> None:
    with pytest.raises(UserError, match=says):
        rule(row(*args, sources=(0,) * len(inputs)), inputs, HALF)


def test_an_unknown_name_gives_the_nearest() -> None:
    list_modules()
    with pytest.raises(UserError, match=r"unknown module 'CordAtt'; did you mean 'CoordAtt'\?"):
        lookup("CordAtt")


def test_a_name_registered_twice_is_an_error(entries: dict[str, registry.Entry]) -> None:
    class Conv(nn.Module):
        pass

    with pytest.raises(UserError, match=r"'Conv' is registered twice: by models\.layers\.conv\.Conv and by .*Conv; rename one"):
        register(registry.preserve)(Conv)
    with pytest.raises(UserError, match="'SPPF' is registered twice"):
        register(registry.preserve, name="Mine", aliases=("SPPF",))(Conv)
    assert "Mine" not in entries


def test_aliases_name_the_same_class(entries: dict[str, registry.Entry]) -> None:
    @register(registry.preserve, name="Mine", aliases=("AlsoMine",), example=(3,))
    class Block(nn.Module):
        pass

    assert lookup("Mine").build is lookup("AlsoMine").build is Block
    assert lookup("AlsoMine").example == (3,)
    assert {"Mine", "AlsoMine"} <= set(list_modules())


def test_nothing_else_of_torch_is_reachable() -> None:
    list_modules()
    with pytest.raises(UserError, match=r"unknown module 'nn\.Module'"):
        lookup("nn.Module")
