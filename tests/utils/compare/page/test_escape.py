"""Escapes: what a hostile name looks like in each language, and that nothing of it is left to act."""

from __future__ import annotations

import csv
import html.parser
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.compare.checksummed_json import finite
from utils.compare.page import escape

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&"


def test_html_shows_the_text_and_starts_no_element() -> None:
    assert escape.html(HOSTILE) == "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&#39;&quot;&amp;"
    assert escape.html("a\nb\x1b[31m\u202e") == "a?b?[31m?"


@given(st.text())
def test_a_parser_of_html_reads_one_text_back(text: str) -> None:
    seen: list[object] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, attrs))

        def handle_data(self, data: str) -> None:
            seen.append(data)

    reader = Reader()
    reader.feed(f'<p title="{escape.html(text)}">{escape.html(text)}</p>')
    reader.close()
    plain = "".join(c if c.isprintable() else "?" for c in text)
    assert seen == [("p", [("title", plain)]), *([plain] if plain else [])]


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\uff1d1", "|calc", "%0a"])
def test_no_cell_begins_a_formula(formula: str) -> None:
    assert escape.csv_cell(formula) == "'" + formula


def test_a_cell_that_is_no_formula_stays() -> None:
    assert escape.csv_cell("yolov5n-ca, 3 = 4") == "yolov5n-ca, 3 = 4"
    file = io.StringIO()
    csv.writer(file).writerow([escape.csv_cell('a,"b"\n=c')])
    assert next(csv.reader(io.StringIO(file.getvalue()))) == ['a,"b"?=c']


def test_markdown_has_no_cell_border_link_or_element() -> None:
    assert escape.markdown("a|b") == r"a\|b"
    assert escape.markdown("![x](javascript:1)") == r"!\[x\](javascript:1)"
    assert escape.markdown("<b>&amp;") == r"&lt;b>&amp;amp;"
    assert escape.markdown("`*_~ www.x.org http://y a@b") == r"\`\*\_\~ www\.x.org http\://y a\@b"
    assert [escape.markdown(t) for t in ("- a", "1. a", "  > a")] == [r"\- a", r"1\. a", r"\> a"]
    assert escape.markdown("yolov5n-ca 1.5 (x)") == "yolov5n-ca 1.5 (x)"
    assert "\n" not in escape.markdown("a\n# b")


def test_latex_has_no_command_left() -> None:
    assert escape.latex(r"\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"
    assert escape.latex("50 % & a_b $x$ #1 ~^") == r"50 \% \& a\_b \$x\$ \#1 \textasciitilde{}\textasciicircum{}"
    assert escape.latex("a--b\n\n") == "a-{}-b??"


@given(st.recursive(st.text() | st.floats() | st.none(), lambda s: st.lists(s) | st.dictionaries(st.text(), s), max_leaves=8))
def test_json_in_a_script_reads_back_and_cannot_end_it(data: object) -> None:
    text = escape.json_script(data)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == finite(data)


def test_json_has_no_literal_that_is_not_json() -> None:
    assert escape.json_script({"a": float("nan"), "b": (float("inf"), 1.5), 3: "<"}) == '{"a":null,"b":[null,1.5],"3":"\\u003c"}'
