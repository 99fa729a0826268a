"""CSV files hold text only: a spreadsheet that opens one runs no formula."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from utils.evaluation.confusion import write_confusion
from utils.files.csv_cells import cell


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "|cmd", "%0", " =1", "\uff1d1", "'=1"])
def test_what_could_be_a_formula_is_marked(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "shown"), [("\t=1", "'\\t=1"), ("\n=1", "'\\n=1"), ("a\r\nb", "a\\r\\nb"), ("\x1b[2J\x9b", "\\x1b[2J\\x9b")]
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert cell(text) == shown


@pytest.mark.parametrize("text", ["cat", "traffic light", "a=b", "", "3", "Öl", 'say "hi"'])
def test_other_text_stays(text: str) -> None:
    assert cell(text) == text


def test_class_names_in_the_confusion_matrix(tmp_path: Path) -> None:
    write_confusion(tmp_path / "c.csv", np.zeros((3, 3), np.int64), ["=cmd|' /C calc'!A0", "\udcff"])
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["predicted \\ true", "'=cmd|' /C calc'!A0", "\\udcff", "background"]
    assert [row[0] for row in rows[1:]] == rows[0][1:]
