"""The figures: every file is there, equal studies give equal bytes, and hostile names are set as text."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.utils.compare.studies import FRUITS, HOSTILE, make_study
from utils.compare.page.figures import classes, plain, write_figures
from utils.compare.page.report_data import build_report_data
from utils.errors import UserError


def test_figures_are_written_and_repeat_to_the_byte(tmp_path: Path) -> None:
    data = build_report_data(make_study(tmp_path, epochs=4))
    files = write_figures(tmp_path / "a", data)
    assert sorted(f.name for f in files) == [f"{n}.{k}" for n in ("classes", "curves", "forest", "pareto") for k in ("png", "svg")]
    image = cv2.imread(str(tmp_path / "a" / "forest.png"))
    assert image is not None
    assert image.std() > 20
    again = [f for f in write_figures(tmp_path / "b", data) if f.suffix == ".svg"]
    assert [f.read_bytes() for f in again] == [(tmp_path / "a" / f.name).read_bytes() for f in again]
    assert all(b"<script" not in f.read_bytes() for f in again)


def test_of_many_classes_those_are_drawn_that_differ_most(tmp_path: Path) -> None:
    names = (*(f"class {i}" for i in range(77)), *FRUITS)
    figure = classes(build_report_data(make_study(tmp_path, hostile=False, names=names)))
    assert len(figure.axes[0].get_yticks()) == 30


def test_a_name_is_neither_a_formula_nor_too_long() -> None:
    assert plain("$x^2$") == r"\$x^2\$"
    assert plain("a\nb") == "a?b"
    assert len(plain(HOSTILE * 3)) <= 36


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file")
    with pytest.raises(UserError, match="figures cannot be written"):
        write_figures(tmp_path / "figures", build_report_data(make_study(tmp_path)))
