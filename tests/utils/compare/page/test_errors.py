"""The table of error types and calibration: what is in it, and what an earlier version did not store."""

from __future__ import annotations

import csv
import dataclasses
import statistics
from pathlib import Path

import numpy as np
import pytest

from tests.utils.compare.page.test_tables import cells
from tests.utils.compare.studies import make_study
from utils.compare.error_figures import DETAILS, run_details
from utils.compare.page import errors
from utils.compare.page.report_data import build_report_data
from utils.compare.results_csv import write_results
from utils.compare.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"), hostile=False)


def test_each_cell_has_the_mean_and_the_difference_with_its_interval(study: Study) -> None:
    table = errors.markdown_part(build_report_data(study)).strip().split("\n\n")[0].splitlines()
    assert cells(table[0])[1:] == ["Classification", "Localisation", "Both", "Duplicate", "Background", "Missed", "Calibration (ECE)"]
    row = cells(next(line for line in table if line.startswith("| yolov5n-ca |")))
    values = [run_details(study.matches("yolov5n-ca", seed)) for seed in (0, 1, 2)]
    for name, cell in zip(DETAILS[3:], row[1:], strict=True):
        column = [v[name] for v in values]
        assert cell.split("<br>")[0] == f"{100 * statistics.fmean(column):.2f} ± {100 * statistics.stdev(column):.2f}"
    assert row[1].endswith("<br>+1.91 (+1.01 to +2.81)\\*")  # 0.0131 + 6 / 1000, ± 0.009: without zero
    assert not any("*" in cell for cell in cells(next(line for line in table if line.startswith("| yolov5n-cot |"))))
    assert values[0]["background_error"] > 0


def test_the_section_names_what_is_simultaneous(study: Study) -> None:
    data = build_report_data(study)
    assert "simultaneous over the 7 columns and the variants" in errors.section(data)
    assert "href" in errors.link(data)


def test_results_csv_has_the_figures_of_each_run(study: Study) -> None:
    write_results(study)
    with (study.folder / "results.csv").open(newline="") as file:
        rows = {(row["variant"], row["seed"]): row for row in csv.DictReader(file)}
    expected = run_details(study.matches("yolov5n-ca", 1))
    assert {name: float(rows["yolov5n-ca", "1"][f"last/{name}"]) for name in DETAILS} == expected
    assert rows["yolov5n-hornet", "0"]["last/f1"] == ""


def test_runs_without_types_have_no_costs(study: Study, tmp_path: Path) -> None:
    runs, old = [], []
    for run in study.runs:
        runs.append(run)
        if run.state == "done":
            folder = tmp_path / run.variant / str(run.seed)
            folder.mkdir(parents=True)
            matches = study.matches(run.variant, run.seed)
            dataclasses.replace(matches, error=np.zeros(0, np.uint8), target=np.zeros(0, np.int32)).save(folder / "last.npz")
            old.append(dataclasses.replace(run, folder=folder))
            if run.variant == "yolov5n-bot":
                runs[-1] = old[-1]
    every = errors.markdown_part(build_report_data(dataclasses.replace(study, runs=tuple(old))))
    assert cells(every.strip().splitlines()[0]) == ["Variant", "Calibration (ECE)"]
    assert "over the 1 column and the variants" in every
    lines = errors.markdown_part(build_report_data(dataclasses.replace(study, runs=tuple(runs)))).splitlines()
    row = cells(next(line for line in lines if line.startswith("| yolov5n-bot |")))
    assert [cell.split("<br>")[0] for cell in row[1:-1]] == ["–"] * 6
    assert row[-1][0].isdigit()
