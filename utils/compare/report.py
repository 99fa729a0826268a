"""Everything a study hands out for reading: report.html, table.md, table.tex, results.json and the figures.

``python -m utils.compare.report STUDY`` writes them again, finished or not, from what lies in the study's folder. It plans, trains and
measures nothing, so it does not mind that code, flags or data have changed since.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.cli import option, parse, run
from utils.compare.checksummed_json import finite, read_json, write_text
from utils.compare.page import protocol, sections
from utils.compare.page import sentences as words
from utils.compare.page.escape import html, json_script
from utils.compare.page.gallery_types import Gallery
from utils.compare.page.report_data import ReportData, build_report_data

if TYPE_CHECKING:
    from utils.compare.study import Study

PAGE = Path(__file__).with_name("page")
SCRIPTS = ("base.js", "table.js", "charts.js", "gallery.js", "main.js")
"""Joined in this order into the page's one script."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Arguments of ``python -m utils.compare.report``."""

    study: str = option("", "study folder", positional=True)
    plugins: tuple[str, ...] = option((), "your own modules, for the pictures of models that use them", nargs="+", type=str)


def main(argv: list[str] | None = None) -> None:
    """Compare the runs of a study folder once more, and write the report anew.

    Raises:
        UserError: no study there, compare.py is at work on it, or a file cannot be written.
    """
    config, _ = parse(ReportConfig, argv, description=__doc__ or "")
    from models import load_plugins
    from utils.compare.load import load_study
    from utils.compare.results_csv import write_results
    from utils.compare.study import COMPARISONS
    from utils.compare.verdicts import compare
    from utils.files.lock import folder_lock
    from utils.log import LOG, start_log

    start_log()
    folder = Path(config.study)
    load_study(folder)  # before a lock is left where there is no study
    load_plugins(config.plugins)
    with folder_lock(folder):
        study = load_study(folder)
        write_results(study)
        write_report(compare(study, (read_json(folder / COMPARISONS) or {}).get("resamples", 1000)))
    LOG.info("report: %s", folder / "report.html")


def write_report(study: Study) -> None:
    """Write report.html, table.md, table.tex, results.json and figures/ into the study's folder; earlier ones are replaced.

    Raises:
        UserError: a file cannot be written.
    """
    from utils.compare.page.figures import write_figures
    from utils.compare.page.gallery import build_gallery
    from utils.compare.page.tables import latex_table, markdown_table

    data = build_report_data(study)
    write_text(study.folder / "table.md", markdown_table(study, data))
    write_text(study.folder / "table.tex", latex_table(study, data))
    write_figures(study.folder / "figures", data)
    gallery = build_gallery(study)
    write_text(study.folder / "results.json", results_json(study, data, gallery))
    write_text(study.folder / "report.html", page(study, data, gallery))


def page(study: Study, data: ReportData, gallery: Gallery) -> str:
    """The one self-contained HTML file. It runs its own script and style only, and loads nothing: its policy names both by their hash."""
    style, script = _style(), _script()
    limits = [*words.notes(data, study.runs, study.plan.data.overlap), *gallery.notes]
    parts = {
        "title": html(study.plan.name),
        "kicker": html(protocol.kicker(study.plan)),
        "headline": html(words.headline(data)).replace(" AP", "\u00a0AP"),  # a number keeps its unit
        "baseline": html(data["baseline"]),
        "level": html(data["level"]),
        "verdict": sections.verdict(data),
        "notes": sections.notes(limits),
        "legend": html(words.legend(data)),
        "gallery": sections.gallery(gallery, data),
        "gallery_link": '<li><a href="#gallery">Images</a></li>' if gallery.scenes else "",
        "changes": sections.changes(data),
        "protocol": sections.protocol(study.plan.command, protocol.plan_rows(study), protocol.tables(study)),
        "data": json_script(data),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
    }
    template = (PAGE / "report.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], template)  # in one pass: a name that looks like a field stays a name


def _style() -> str:
    return (PAGE / "report.css").read_text(encoding="utf-8")


def _script() -> str:
    body = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def results_json(study: Study, data: ReportData, gallery: Gallery) -> str:
    """Everything that was found, and how: the numbers of the report, each run, the protocol. NaN is null."""
    plan = study.plan
    content: dict[str, Any] = {
        "headline": words.headline(data),
        "notes": words.notes(data, study.runs, plan.data.overlap),
        **{k: v for k, v in data.items() if k not in ("explain", "curves")},
        "runs": study.records(),
        "curves": {v["name"]: data["curves"]["values"][v["index"]] for v in data["variants"]},
        "energy": {
            "seed": gallery.seed,
            "without_focus": gallery.chance,
            "inside_true_boxes": {name: {"share": focus.share, "images": focus.images} for name, focus in gallery.focus.items()},
        },
        "protocol": {"command": plan.command, **dict(protocol.plan_rows(study)), **{k: dict(v) for k, v in protocol.tables(study).items()}},
    }
    return json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


if __name__ == "__main__":
    run(main)
