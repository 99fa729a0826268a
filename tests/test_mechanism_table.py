"""The page of all mechanisms is current."""

from __future__ import annotations

import pytest

from benchmarks.mechanism_table import PAGE, classes, line, lines_of
from models import list_modules
from models.registry import lookup

LINES = lines_of(PAGE.read_text(encoding="utf-8"))
EVERY = {names[0]: names for lines in classes().values() for names in lines}
SAMPLE = {"CoT", "CAB", "MHSA", "GnConv", "SE", "C3Hor", "CBAM", "NonLocal", "Conv", "RepConv", "ASPP", "CARAFE", "HorFPN"}


def test_every_module_is_on_the_page_once() -> None:
    assert list(LINES) == list(EVERY), "python -m benchmarks.modules --table --modules NAME writes the page, and measures the new module"
    packages = ("models.attention.", "models.layers.", "models.necks.", "models.backbones.")
    shipped = {name for name in list_modules() if lookup(name).build.__module__.startswith(packages)}
    assert {name for names in EVERY.values() for name in names} == shipped


@pytest.mark.parametrize(
    "first", [first if names[0] in SAMPLE else pytest.param(first, marks=pytest.mark.slow) for first, names in EVERY.items()]
)
def test_a_line_is_current(first: str) -> None:
    *cells, time, place = LINES[first]
    assert [*cells, place] == line(EVERY[first])
    assert not time or 0 <= float(time) < 1000
    name, paper, year, *_ = cells
    assert not year or 1980 < int(year) < 2100, name
    assert ("](https://arxiv.org/abs/" in paper) <= bool(year)


def test_the_figures_are_those_of_the_cost_table() -> None:
    """Parameters and multiply-adds at 256 channels on 20 x 20, counted elsewhere: docs and code must not share a mistake."""
    for name, parameters, giga in (("CoT", 417_248, 0.254), ("GnConv", 266_176, 0.212), ("CPSA", 536_392, 0.468), ("IPSA", 791_112, 0.672)):
        cells = LINES[name]
        assert cells[4] == f"{parameters:,}"
        assert float(cells[5]) == pytest.approx(giga, rel=0.01)
