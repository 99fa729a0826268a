"""Edits: where a row goes, who reads it, and what the message says when it cannot go there."""

from __future__ import annotations

from typing import Any

import pytest

from models.registry import Row
from models.spec.edits import apply_edits
from models.spec.rows import parse_table
from utils.errors import UserError

# 0 Conv, 1 Conv, 2 C3, 3 Conv, 4 Concat(3, 2), 5 C3, 6 Detect(2, 5)
TABLE: list[list[Any]] = [
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Conv", [128, 3, 2]],
    [-1, 3, "C3", [128]],
    [-1, 1, "Conv", [128, 1, 1]],
    [[-1, 2], 1, "Concat", [1]],
    [-1, 3, "C3", [128]],
    [[2, 5], 1, "Detect", ["nc", "anchors"]],
]


def edited(*edits: dict[str, Any]) -> tuple[Row, ...]:
    return apply_edits(parse_table(TABLE, "base"), list(edits), "v.yaml")


def short(rows: tuple[Row, ...]) -> list[tuple[str, tuple[int, ...]]]:
    assert [row.index for row in rows] == list(range(len(rows)))
    return [(row.name, row.sources) for row in rows]


def test_no_edit_changes_nothing() -> None:
    assert edited() == parse_table(TABLE, "base")


def test_readers_by_number_and_by_minus_one_read_the_inserted_row() -> None:
    rows = edited({"after": 2, "insert": [1, "SE", [16]]})
    assert short(rows) == [
        ("Conv", (-1,)),
        ("Conv", (0,)),
        ("C3", (1,)),
        ("SE", (2,)),
        ("Conv", (3,)),
        ("Concat", (4, 3)),
        ("C3", (5,)),
        ("Detect", (3, 6)),
    ]
    assert [row.origin for row in rows] == ["0", "1", "2", "2+SE", "3", "4", "5", "6"]
    assert (rows[3].args, rows[3].repeats, rows[3].gate) == ((16,), 1, "")


def test_numbers_are_those_of_the_base_whatever_the_order() -> None:
    first, second = {"after": 1, "insert": [1, "SE", []]}, {"after": 5, "insert": [1, "ECA", []]}
    assert edited(first, second) == edited(second, first)
    assert short(edited(first, second))[-1] == ("Detect", (3, 7))


def test_several_inserts_at_one_place_follow_each_other() -> None:
    rows = edited({"after": 2, "insert": [1, "SE", []]}, {"after": 2, "insert": [1, "SE", []]}, {"after": 2, "insert": [1, "ECA", []]})
    assert short(rows)[3:7] == [("SE", (2,)), ("SE", (3,)), ("ECA", (4,)), ("Conv", (5,))]
    assert short(rows)[-1] == ("Detect", (5, 8))
    assert [row.origin for row in rows[3:6]] == ["2+SE", "2+SE.2", "2+ECA"]


def test_an_insert_may_read_elsewhere() -> None:
    rows = edited({"after": 3, "insert": [[-1, 1], 1, "Concat", [1]]}, {"after": 1, "insert": [1, "SE", []]})
    assert short(rows)[5] == ("Concat", (4, 2))  # base row 1 means what its readers read: the SE after it
    assert short(edited({"after": 3, "insert": [1, "Concat", [1]], "from": [3, 0]}))[4] == ("Concat", (3, 0))
    assert short(edited({"after": 3, "insert": [1, "Concat", [1]], "from": [-1, -2]}))[4] == ("Concat", (3, 2))


def test_replace() -> None:
    rows = edited({"replace": 5, "with": [2, "C3TR", [64]]})
    assert short(rows) == [*short(edited())[:5], ("C3TR", (4,)), ("Detect", (2, 5))]
    assert (rows[5].origin, rows[5].repeats) == ("5=C3TR", 2)
    assert short(edited({"replace": 5, "with": [1, "C3", [64]], "from": 3}))[5] == ("C3", (3,))


def test_replace_may_change_the_sources_only() -> None:
    rows = edited({"replace": 4, "from": [-1, 2, 1]}, {"after": 2, "insert": [1, "SE", []]})
    assert rows[5].name == "Concat"
    assert rows[5].sources == (4, 3, 1)
    assert rows[5].origin == "4"


def test_readers_of_a_removed_row_read_its_source() -> None:
    assert short(edited({"remove": 2})) == [
        ("Conv", (-1,)),
        ("Conv", (0,)),
        ("Conv", (1,)),
        ("Concat", (2, 1)),
        ("C3", (3,)),
        ("Detect", (1, 4)),
    ]
    assert short(edited({"remove": 0}))[0] == ("Conv", (-1,))
    assert short(edited({"remove": 1}, {"remove": 2}))[-1] == ("Detect", (0, 3))


def test_an_insert_after_a_removed_row_takes_its_place() -> None:
    assert short(edited({"remove": 2}, {"after": 2, "insert": [1, "SE", []]})) == [
        (name if name != "C3" or i != 2 else "SE", sources) for i, (name, sources) in enumerate(short(edited()))
    ]


def test_an_insert_after_a_replaced_row_reads_the_new_one_whatever_the_order() -> None:
    replace, insert = {"replace": 2, "with": [1, "C3TR", [64]]}, {"after": 2, "insert": [1, "SE", []]}
    assert edited(replace, insert) == edited(insert, replace)
    assert short(edited(insert, replace))[2:4] == [("C3TR", (1,)), ("SE", (2,))]
    assert short(edited(insert, {"remove": 2}))[2] == ("SE", (1,))


def test_edits_of_a_variant_of_a_variant_keep_the_identities() -> None:
    rows = apply_edits(edited({"after": 2, "insert": [1, "SE", []]}), [{"after": 3, "insert": [1, "ECA", []]}], "w.yaml")
    assert [row.origin for row in rows][2:6] == ["2", "2+SE", "2+SE+ECA", "3"]
    assert rows[-1].sources == (4, 7)


def test_gate() -> None:
    assert edited({"after": 2, "insert": [1, "SE", []], "gate": "zero"})[3].gate == "zero"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"after": 7, "insert": [1, "SE", []]}, r"edit 1: after: 7 is not a row of the base \(0 to 6\)"),
        ({"after": -1, "insert": [1, "SE", []]}, "after: -1 is not a row"),
        ({"after": True, "insert": [1, "SE", []]}, "after: True is not a row"),
        ({"after": 6, "insert": [1, "SE", []]}, r"\(after 6, Detect\): nothing can follow the last row"),
        ({"after": 2, "insert": "SE"}, r"'insert' has the form \[repeats, module, args\]"),
        ({"after": 2}, "'insert' has the form"),
        ({"after": 2, "insert": [0, "SE", []]}, r"\(after 2, C3\) \(SE\): repeats must be an integer from 1 to 1000, got 0"),
        ({"after": 2, "insert": [1, 5, []]}, "module's name is text, not 5"),
        ({"after": 2, "insert": [1, "SE", 5]}, "arguments are a list, not 5"),
        ({"after": 2, "insert": [1, "SE", []], "gaet": "zero"}, "unknown key 'gaet'; did you mean 'gate'?"),
        ({"after": 2, "insert": [1, "SE", []], "gate": "one"}, "gate: 'one' is unknown"),
        ({"after": 2, "insert": [1, "SE", []], "gate": ["zero"]}, r"gate: \['zero'\] is unknown"),
        ({"after": 2, "insert": [1, "SE", []], "from": 5}, "'from' 5 is not before it"),
        ({"after": 2, "insert": [1, "SE", []], "from": "x"}, "'from' is a row number or a list of them"),
        ({"after": 2, "insert": [-1, 1, "SE", []], "from": 1}, "'from' is given twice"),
        ({"replace": 2, "with": [1, "SE", []], "gate": "one"}, "gate: .one. is unknown; there is zero and learned"),
        ({"replace": 2}, "neither 'with' what nor 'from' where"),
        ({"remove": 4}, r"C3 of base row 5 reads row 4, which is removed and had several inputs"),
        ({"insret": 2}, "expected 'after: N, insert: ...', 'replace: N, with: ...' or 'remove: N'"),
        (7, "expected 'after"),
    ],
)
def test_messages(edit: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        edited(edit)
    assert "v.yaml" in str(error.value)


def test_two_edits_of_one_row_contradict() -> None:
    with pytest.raises(UserError, match=r"edit 2 \(remove 2, C3\): another edit replaces this row already"):
        edited({"replace": 2, "with": [1, "SE", []]}, {"remove": 2})
    with pytest.raises(UserError, match="'edits' is a list of edits"):
        apply_edits(parse_table(TABLE, "base"), {"after": 2}, "v.yaml")
    with pytest.raises(UserError, match="remove every row"):
        edited(*({"remove": i} for i in range(7)))
