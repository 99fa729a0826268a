"""Untrusted names in the report of a study: they stay text in HTML, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import html.parser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

Entry = tuple[str, Any, str | None]

ESCAPES = {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "char"}
"""Commands that LaTeX needs to show a character."""


def payloads(canary: Path) -> dict[str, str]:
    """Names, each of which means something in one of the four languages."""
    return {
        "the end of a script": "</script><script>alert(1)</script>",
        "an image with a handler": "<img src=x onerror=alert(1)>",
        "the end of an attribute": '" onmouseover="alert(1)" x=\'',
        "the end of a comment and a title": "--></title></style><svg onload=alert(1)>",
        "entities": "&lt;script&gt;&#x3c;b&#x3e;",
        "a field of the template": "{{script}}{{data}}",
        "a link in Markdown": "[x](javascript:alert(1)) ![y](http://127.0.0.1/z.png)",
        "a cell in Markdown": "a | b |\n| - | `c",
        "a file for LaTeX": "\\input{/etc/passwd}",
        "a command for LaTeX": f"\\immediate\\write18{{touch {canary}}}",
        "the end of a group in LaTeX": "}}\\end{table*}\\catcode`\\%=12 $x$ & # _ ^ ~ %",
        "a formula": "=cmd|' /C calc'!A0",
        "a formula with @": "@SUM(1+1)*cmd",
        "a formula behind a tab": "\t=1+1",
    }


class _Outline(html.parser.HTMLParser):
    """The elements of a page and the names of their attributes, in order, and their text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.words.append(data)


def reports(folder: Path, canary: Path) -> Iterator[Entry]:
    """Every attack by way of the names of a variant and of a class."""
    harmless = folder / "harmless"
    expected = _written(harmless, "harmless")
    for at, (what, name) in enumerate(payloads(canary).items()):
        yield f"report: {what}", lambda name=name, at=at: _inert(folder / str(at), name, expected), None


def _written(place: Path, name: str) -> dict[str, str]:
    """The text of each file of a study in which a variant and a class have that name."""
    from tests.utils.compare import studies
    from utils.compare import report
    from utils.compare.page.gallery_types import Gallery
    from utils.compare.page.report_data import build_report_data
    from utils.compare.page.tables import latex_table, markdown_table
    from utils.compare.results_csv import write_results

    place.mkdir()
    with mock.patch.object(studies, "GAINS", {"yolov5n": 0.0, name: 0.01}):
        study = studies.make_study(place, hostile=False, seeds=2, epochs=3, names=(name, "b"))
    data = build_report_data(study)
    write_results(study)
    table = (place / "results.csv").read_text()
    return {
        "html": report.html_page(study, data, Gallery()),
        "md": markdown_table(study, data),
        "tex": latex_table(study, data),
        "csv": table,
    }


def _inert(place: Path, name: str, expected: dict[str, str]) -> None:
    """Compare the structure of each file with that of a harmless name."""
    found = _written(place, name)
    page, plain = _Outline(found["html"]), _Outline(expected["html"])
    assert page.elements == plain.elements, "other elements on the page"
    shown = "".join(c if c.isprintable() else "?" for c in name)
    assert any(shown in words for words in page.words), "the name is not shown"
    assert "<" not in found["md"].replace("<sub>", "").replace("<br>", ""), "an element in Markdown"
    assert not re.search(r"(?<!\\)\]\((?!#)", found["md"]), "a link in Markdown"
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in found["md"].splitlines()]
    assert cells == [line.count("|") for line in expected["md"].splitlines()], "other cells in Markdown"
    assert _commands(found["tex"]) <= _commands(expected["tex"]) | ESCAPES, "a command in LaTeX"
    bare = re.sub(r"\\[{}]", "", found["tex"])
    assert bare.count("{") == bare.count("}"), "braces in LaTeX"
    assert len(re.findall(r"(?<!\\)&", found["tex"])) == expected["tex"].count("&"), "other cells in LaTeX"
    formulas = [cell for row in csv.reader(found["csv"].splitlines()) for cell in row if re.match(r"\s*[=+@|%]|-(?![\d.])", cell)]
    assert not formulas, f"formulas: {formulas}"


def _commands(text: str) -> set[str]:
    return set(re.findall(r"\\([A-Za-z]+)", text))
