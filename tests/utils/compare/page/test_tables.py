"""The tables for READMEs and papers: literal rows, significance marks, and names that try to be markup."""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
from pathlib import Path

import pytest

from tests.utils.compare.studies import HOSTILE, make_study
from utils.compare.page.report_data import ReportData, build_report_data
from utils.compare.page.tables import _gain, latex_table, markdown_table
from utils.compare.resampled_ap import precision_recall_f1
from utils.compare.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_row_of_the_markdown_has_as_many_cells_as_its_head(study: Study) -> None:
    tables = [part.splitlines() for part in markdown_table(study, build_report_data(study)).split("\n\n") if part.startswith("|")]
    assert [len(t) for t in tables] == [10, 10]  # head, rule, eight variants
    assert all(len(cells(line)) == len(cells(table[0])) for table in tables for line in table)


def test_a_row_of_the_markdown(study: Study) -> None:
    line = next(x for x in markdown_table(study, build_report_data(study)).splitlines() if x.startswith("| yolov5n-ca |"))
    assert cells(line)[2:] == [
        "+1.31",
        "+0.41 to +2.21",
        "0.024",
        "better",
        "1.83 M (× 1.03)",
        "1.09 (× 1.06)",
        "23.6 ms (× 1.10)",
        "55.1 (× 0.91)",
    ]


def test_the_best_epoch_is_a_column_of_its_own(study: Study) -> None:
    table = next(part for part in markdown_table(study, build_report_data(study)).split("\n\n") if "best epoch |" in part).splitlines()
    best = [run.best.ap for run in study.runs_of("yolov5n-ca") if run.best]
    row = next(x for x in table if x.startswith("| yolov5n-ca |"))
    assert cells(table[0])[-3] == "AP, best epoch"
    assert cells(row)[-3] == f"{100 * statistics.fmean(best):.2f} ± {100 * statistics.stdev(best):.2f}"


def test_precision_recall_f1_and_the_start_are_in_the_table(study: Study) -> None:
    table = next(part for part in markdown_table(study, build_report_data(study)).split("\n\n") if "best epoch |" in part).splitlines()
    assert cells(table[0])[7:10] == ["P", "R", "F1"]
    assert cells(table[0])[-2:] == ["AP at the start", "Tensors transferred"]
    row = cells(next(x for x in table if x.startswith("| yolov5n-ca |")))
    assert row[-2:] == ["28.00", "349/349"]
    values = [precision_recall_f1(study.matches("yolov5n-ca", seed)) for seed in (0, 1, 2)]
    for shown, column in zip(row[7:10], zip(*values, strict=True), strict=True):
        assert shown == f"{100 * statistics.fmean(column):.2f} ± {100 * statistics.stdev(column):.2f}"
    assert cells(next(x for x in table if x.startswith("| yolov5n-bot |")))[-2:] == ["–", "–"]


def test_a_row_of_the_latex(study: Study) -> None:
    line = next(x for x in latex_table(study, build_report_data(study)).splitlines() if x.strip().startswith("yolov5n-bot &"))
    assert line.strip().split(" & ")[7:] == ["$-1.70^{*\\downarrow}$", "$[-2.60, -0.80]$", "1.95", "1.21", "27.8", r"46.8 \\"]


def test_the_latex_is_balanced_and_says_how_it_was_made(study: Study) -> None:
    text = latex_table(study, build_report_data(study))
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\(?:begin|end)\{(\w+\*?)\}", text) == ["table*", "tabular", "tabular", "table*"]
    assert "fruits.yaml (48 images of val): seeds 0, 1, 2; 30 epochs" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert {len(re.split(r"(?<!\\)&", row)) for row in body} == {13}


def test_hostile_names_are_text_in_both(study: Study) -> None:
    assert HOSTILE not in markdown_table(study, build_report_data(study))
    assert "<img" not in markdown_table(study, build_report_data(study))
    text = latex_table(study, build_report_data(study))
    assert r"\input{x}" not in text
    assert r"\textbackslash{}input\{x\}\$\&\_" in text


@pytest.mark.parametrize(
    ("word", "p", "shown"),
    [
        ("better", 0.0004, r"$+1.00^{***\uparrow}$"),
        ("worse", 0.03, r"$+1.00^{*\downarrow}$"),
        ("not distinguishable", 0.2, "$+1.00$"),
        ("no verdict", math.nan, r"$+1.00^{\circ}$"),
        ("no verdict", 0.001, r"$+1.00^{\circ}$"),
    ],
)
def test_marks_of_significance(word: str, p: float, shown: str) -> None:
    variant: ReportData = {"word": word, "baseline": False}
    assert _gain(variant, {"mean": 0.01, "p": p}) == shown


def test_what_is_not_known_is_a_dash(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    line = next(x for x in markdown_table(study, build_report_data(study)).splitlines() if x.startswith("| yolov5n-hornet |"))
    assert set(cells(line)[1:5]) == {"–"}
    assert "nan" not in markdown_table(study, build_report_data(study))
    assert "nan" not in latex_table(study, build_report_data(study))


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        ((), "same capacity as yolov5n-ca, without its change"),
        (("model.6.w",), "loses the start weights that yolov5n-ca loses"),
    ],
)
def test_a_control_says_what_it_shares_with_its_variant(reset: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    study = make_study(tmp_path)
    variants = tuple(dataclasses.replace(v, reset=reset) if v.control_of else v for v in study.variants)
    data = build_report_data(dataclasses.replace(study, plan=dataclasses.replace(study.plan, variants=variants)))
    assert [v["subtitle"] for v in data["variants"] if v["control_of"]] == [expected]
    assert {v["subtitle"] for v in data["variants"] if not v["control_of"]} == {""}
