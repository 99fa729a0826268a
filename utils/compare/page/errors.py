"""The table of a study's errors: what each of TIDE's types costs in AP50, and how far confidence is from precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from utils.compare.page import sentences as words
from utils.compare.page.escape import html, markdown
from utils.compare.page.report_data import ERROR_METRICS, Metric, ReportData
from utils.log import counted

CAPTION = (
    "Points of AP50 that a variant would gain if all errors of a type were corrected (TIDE, IoU 0.5 and 0.1), and the expected calibration "
    "error: by how far the confidence of detections (from 0.25) is from their precision at IoU 0.5. Less is better in every column. "
    "Mean ± standard deviation over the seeds; below it the difference from {baseline} with its 95 % CI for seeds and images, simultaneous "
    "over the {columns} and the variants; * where it leaves zero out."
)


def _columns(data: ReportData) -> list[Metric]:
    """The figures that are known: runs that an earlier version measured have no error types."""
    return [m for m in ERROR_METRICS if any(not math.isnan(v["errors"][m.key]["mean"]) for v in data["variants"])]


def _rows(data: ReportData) -> list[ReportData]:
    """The variants with any of them."""
    return [v for v in data["variants"] if any(not math.isnan(v["errors"][m.key]["mean"]) for m in ERROR_METRICS)]


def section(data: ReportData) -> str:
    """The section of report.html; "" without any figure."""
    if not (columns := _columns(data)):
        return ""
    head = "".join(f'<th scope="col" title="{html(m.title)}">{html(m.label)}</th>' for m in columns)
    rows = "".join(
        f'<tr><th scope="row">{html(v["name"])}</th>' + "".join(f"<td>{_cell(v, m.key)}</td>" for m in columns) + "</tr>"
        for v in _rows(data)
    )
    return (
        '<section id="errors" aria-labelledby="errors-title"><h2 id="errors-title">Errors and calibration</h2>'
        f'<p class="lead">{html(_caption(data))}</p><div class="scroll" role="region" aria-labelledby="errors-title" tabindex="0">'
        f'<table class="heat"><thead><tr><th scope="col">Variant</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def link(data: ReportData) -> str:
    """The entry of the section in the page's navigation."""
    return '<li><a href="#errors">Errors</a></li>' if _columns(data) else ""


def _cell(v: ReportData, key: str) -> str:
    difference = html(_difference(v, key))
    return html(words.spread(v["errors"][key])) + (f"<small>{difference}</small>" if difference else "")


def markdown_part(data: ReportData) -> str:
    """The table for table.md; "" without any figure."""
    if not (columns := _columns(data)):
        return ""
    rows = [["Variant", *(m.label for m in columns)]]
    for v in _rows(data):
        cells = ([words.spread(v["errors"][m.key]), _difference(v, m.key).replace("*", r"\*")] for m in columns)
        rows.append([markdown(v["name"]), *("<br>".join(filter(None, cell)) for cell in cells)])
    return f"\n{words.pipes(rows)}\n\n{_caption(data, markdown)}\n"


def _difference(v: ReportData, key: str) -> str:
    gap: dict[str, Any] = v["differences"].get(key, {})
    pair: Sequence[float] | None = gap.get("interval")
    if math.isnan(gap.get("mean", math.nan)):
        return ""
    star = "*" if pair and (pair[0] > 0 or pair[1] < 0) else ""
    return f"{words.signed(gap['mean'])} ({words.ends(pair)}){star}"


def _caption(data: ReportData, escape: Callable[[object], str] = str) -> str:
    return escape(CAPTION.format(baseline=data["baseline"], columns=counted(len(_columns(data)), "column")))
