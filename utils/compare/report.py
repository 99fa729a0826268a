"""The report of a study: report.html, table.md, table.tex, results.json and figures.

``python -m utils.compare.report STUDY`` writes it again from the study folder alone, whether or not the study is finished, and even if
code, flags or data have changed since. It trains and measures nothing.
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
from utils.compare.page import errors, factors, others, protocol, sections, tuning
from utils.compare.page import sentences as words
from utils.compare.page.escape import html, json_script
from utils.compare.page.gallery_types import Gallery
from utils.compare.page.report_data import ReportData, build_report_data

if TYPE_CHECKING:
    from utils.compare.study import Study

PAGE = Path(__file__).with_name("page")
SCRIPTS = ("base.js", "table.js", "charts.js", "gallery.js", "main.js")
"""Joined in this order into the script of the page."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Arguments of ``python -m utils.compare.report``."""

    study: str = option("", "study folder", positional=True)
    plugins: tuple[str, ...] = option((), "your own modules, for pictures of models that use them", nargs="+", type=str)


def main(argv: list[str] | None = None) -> None:
    """Compare the runs of a study folder and write the report again.

    Raises:
        UserError: there is no study, compare.py is using it, or a file cannot be written.
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
    load_study(folder)  # before a lock file is made where there is no study
    load_plugins(config.plugins)
    with folder_lock(folder):
        study = load_study(folder)
        write_results(study)
        resamples = (read_json(folder / COMPARISONS) or {}).get("resamples")
        write_report(compare(study, resamples if type(resamples) is int and 100 <= resamples <= 100_000 else 1000))
    LOG.info("report: %s", folder / "report.html")


def write_report(study: Study) -> None:
    """Write or replace report.html, table.md, table.tex, results.json and figures/ in the study folder.

    Raises:
        UserError: a file cannot be written.
    """
    from utils.compare.page.figures import write_figures
    from utils.compare.page.gallery import build_gallery
    from utils.compare.page.tables import latex_table, markdown_table

    data = build_report_data(study)
    write_text(
        study.folder / "table.md",
        markdown_table(study, data)
        + others.markdown_part(study)
        + errors.markdown_part(data)
        + factors.markdown_parts(study, data)
        + tuning.markdown_part(study.plan),
    )
    write_text(study.folder / "table.tex", latex_table(study, data) + others.latex_part(study) + factors.latex_parts(study, data))
    write_figures(study.folder / "figures", data)
    gallery = build_gallery(study)
    write_text(study.folder / "results.json", results_json(study, data, gallery))
    write_text(study.folder / "report.html", html_page(study, data, gallery))


def html_page(study: Study, data: ReportData, gallery: Gallery) -> str:
    """The self-contained HTML file. It loads nothing, and its CSP allows its own script and style only, by their hashes."""
    style = (PAGE / "report.css").read_text(encoding="utf-8")
    body = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{body}}})();\n'
    limits = [*words.notes(data, study.runs, study.plan.data.overlap), *gallery.notes]
    parts = {
        "title": html(study.plan.name),
        "kicker": html(protocol.kicker(study.plan)),
        "headline": html(words.headline(data)).replace(" AP", "\u00a0AP"),  # keeps number and unit on one line
        "baseline": html(data["baseline"]),
        "level": html(data["level"]),
        "verdict": sections.verdict(data),
        "notes": sections.notes(limits),
        "legend": html(words.legend(data)),
        "errors": errors.section(data),
        "errors_link": errors.link(data),
        "factors": factors.html_parts(study, data),
        "factors_link": "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title in factors.links(study)),
        "gallery": sections.gallery(gallery, data),
        "gallery_link": '<li><a href="#gallery">Images</a></li>' if gallery.scenes else "",
        "changes": sections.changes(data),
        "others": others.section(study),
        "others_link": '<li><a href="#others">Predictions</a></li>' if study.others else "",
        "tuning": tuning.section(study.plan),
        "tuning_link": '<li><a href="#tuning">Tuning</a></li>' if study.plan.tuning else "",
        "protocol": sections.protocol(study.plan.command, protocol.plan_rows(study), protocol.tables(study)),
        "data": json_script(data),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
    }
    template = (PAGE / "report.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], template)  # in one pass, so that a name containing {{field}} is not replaced


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def results_json(study: Study, data: ReportData, gallery: Gallery) -> str:
    """The numbers of the report, each run and the protocol, as JSON; NaN is null."""
    plan = study.plan
    content: dict[str, Any] = {
        "headline": words.headline(data),
        "notes": words.notes(data, study.runs, plan.data.overlap),
        **{k: v for k, v in data.items() if k not in ("explain", "curves")},
        **factors.effect_data(study),
        **others.others_data(study),
        **tuning.tuning_data(plan),
        "runs": study.records(),
        "curves": {v["name"]: data["curves"]["values"][v["index"]] for v in data["variants"]},
        "energy": {
            "seed": gallery.seed,
            "without_focus": gallery.uniform_share,
            "inside_true_boxes": {
                name: {**energy._asdict(), "difference": energy.difference and dataclasses.asdict(energy.difference)}
                for name, energy in gallery.energy.items()
            },
        },
        "protocol": {"command": plan.command, **dict(protocol.plan_rows(study)), **{k: dict(v) for k, v in protocol.tables(study).items()}},
    }
    return json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


if __name__ == "__main__":
    run(main)
