"""The sections that only some reports have, in a real browser: factors, pairs, predictions of others, tuning, folds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_report_browser import PHONE, WIDE, Opened, browser, illegible
from tests.test_report_browser import pytestmark as needs_browser
from tests.utils.compare.studies import make_factorial
from utils.compare.page.gallery_types import Gallery
from utils.compare.page.report_data import build_report_data
from utils.compare.report import html_page

assert browser  # a fixture
pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By number of folds, the page of a study."""
    found = {}
    for folds in (0, 2):
        folder = tmp_path_factory.mktemp(f"folds{folds}")
        study = make_factorial(folder, folds=folds)
        (folder / "report.html").write_text(html_page(study, build_report_data(study), Gallery()), encoding="utf-8")
        found[folds] = folder / "report.html"
    return found


@pytest.fixture(params=[WIDE, PHONE])
def opened(request: pytest.FixtureRequest, browser: Any, reports: dict[int, Path]) -> Iterator[Opened]:
    window = Opened(browser, reports[0], request.param)
    yield window
    window.close()


def test_the_tables_hold_what_was_found(opened: Opened) -> None:
    page = opened.page
    grid, effects = page.locator("#factors table").all()
    assert [row.locator(".factor").all_inner_texts() for row in grid.locator("tbody tr").all()] == [
        ["", ""],
        ["✓", ""],
        ["", "✓"],
        ["✓", "✓"],
    ]
    assert effects.locator(".chip").all_inner_texts() == ["better", "better", "not distinguishable"]
    pairs = page.locator("#pairs tbody tr")
    assert pairs.count() == 10
    assert pairs.first.inner_text().startswith("ca against yolov5n")
    assert pairs.locator(".chip.none").count() == 4  # those of the arm that ended early
    others = page.locator("#others tbody tr")
    assert [name.split()[-1] for name in others.locator("th").all_inner_texts()] == ["†", "†"]
    assert others.locator(".chip").all_inner_texts() == ["better", "worse"]
    assert page.locator("#tuning tbody tr").first.locator("td").all_inner_texts()[:6] == ["3", "1", "31.00", "33.40", "+2.40", "2"]
    assert "stopped after 1 of 3 seeds: seed 0 failed" in page.locator(".warning").inner_text()
    assert page.locator(".findings .chip").last.inner_text() == "no verdict"


def test_each_section_is_reached_and_read_to_its_last_column(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for name, key in (("Predictions", "others"), ("Factors", "factors"), ("Pairs", "pairs"), ("Tuning", "tuning")):
        page.get_by_role("link", name=name, exact=True).click()
        page.wait_for_function(
            """(id) => { const top = document.querySelector(id + ' h2').getBoundingClientRect().top;
            return top > document.querySelector('#switch').getBoundingClientRect().bottom - 1 && top < innerHeight; }""",
            arg=f"#{key}",
        )
        for table in page.locator(f"#{key} .scroll").all():
            last = """n => {
                n.scrollLeft = n.scrollWidth;
                const [first, cell] = ['first', 'last'].map(k => n.querySelector(`thead th:${k}-child`).getBoundingClientRect());
                return [cell.right - n.getBoundingClientRect().right, cell.left - first.right];
            }"""
            beyond, gap = table.evaluate(last)
            assert beyond <= 1
            assert gap >= -1  # the first column stays in view and does not cover it
    assert "NaN" not in page.locator("main").inner_text()
    assert not illegible(page)


def test_a_study_with_folds_says_so(browser: Any, reports: dict[int, Path]) -> None:
    window = Opened(browser, reports[2], PHONE)
    page = window.page
    kicker = page.locator(".kicker").inner_text()
    assert "2 seeds × 2 folds" in kicker
    assert kicker.endswith("data fruits.yaml, 240 images in folds")
    assert page.locator("#others, #tuning").count() == 0
    assert page.get_by_text("Corrected resampled t (Nadeau and Bengio 2003)").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    window.close()
