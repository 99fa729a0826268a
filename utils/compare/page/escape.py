"""Escapes untrusted text (names, paths) for each language that a study's files are written in.

Each function takes any text and returns markup that shows as that text and has no other effect. Non-printable characters (line breaks,
terminal codes, bidirectional controls) become ``?``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from utils.compare.checksummed_json import finite
from utils.files.csv_cells import cell
from utils.log import printable

_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    **{c: "\\" + c for c in "$&#%_"},
}
_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def html(text: object) -> str:
    """For the text of an HTML element and for a quoted attribute."""
    return "".join(_HTML.get(c, c) for c in printable(str(text)))


def csv_cell(text: object) -> str:
    """For a cell of a CSV file that may be opened in a spreadsheet: text that looks like a formula is prefixed with an apostrophe.

    Commas and quotes are left to the csv module.
    """
    return cell(printable(str(text)))


def markdown(text: object) -> str:
    """For text and table cells in GitHub's Markdown: produces no markup, link, HTML or cell border."""
    plain = re.sub(
        r"([\\`*_\[\]#|~$@]|(?<=www)\.|:(?=//)|^[-+>=]|(?<=^\d)[.)])", r"\\\1", printable(str(text)).strip(), flags=re.IGNORECASE
    )
    return plain.replace("&", "&amp;").replace("<", "&lt;")


def latex(text: object) -> str:
    """For text and table cells in LaTeX. Non-ASCII characters are left to the input encoding of the engine."""
    commands = "".join(_LATEX.get(c, c) for c in printable(str(text)))
    return re.sub("-(?=-)", "-{}", commands)  # two hyphens would make a dash


def json_script(data: Any) -> str:
    """JSON for a script element: contains no ``<``, so it can neither end the element nor begin a comment."""
    text = json.dumps(finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "".join(_IN_SCRIPT.get(c, c) for c in text)
