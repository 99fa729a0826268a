"""Names, labels and paths come from files of strangers: one escape for each language that a study's files are written in.

Each takes any text and returns what shows as that text, and as nothing else, where the docstring says. Characters that are
not printable (line breaks, terminal codes, marks that turn the direction of writing) become ``?`` in all of them.
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
    """For the text of an HTML element and for an attribute's value in quotes."""
    return "".join(_HTML.get(c, c) for c in printable(str(text)))


def csv_cell(text: object) -> str:
    """For a cell of a CSV file that a spreadsheet may open: what it would take for a formula gets an apostrophe in front.

    Numbers of ours are written as they are, without this function; commas and quotes are the csv module's affair.
    """
    return cell(printable(str(text)))


def markdown(text: object) -> str:
    """For running text and for the cell of a table, in GitHub's Markdown: no markup, link, HTML or cell border comes out of it."""
    plain = re.sub(
        r"([\\`*_\[\]#|~$@]|(?<=www)\.|:(?=//)|^[-+>=]|(?<=^\d)[.)])", r"\\\1", printable(str(text)).strip(), flags=re.IGNORECASE
    )
    return plain.replace("&", "&amp;").replace("<", "&lt;")


def latex(text: object) -> str:
    """For running text and table cells in LaTeX. Characters beyond ASCII are left to the engine's input encoding."""
    commands = "".join(_LATEX.get(c, c) for c in printable(str(text)))
    return re.sub("-(?=-)", "-{}", commands)  # two hyphens would make a dash


def json_script(data: Any) -> str:
    """JSON for a script element: it holds no ``<``, so it can neither end the element nor begin a comment."""
    text = json.dumps(finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "".join(_IN_SCRIPT.get(c, c) for c in text)
