"""Rows that nothing reads."""

import pytest

from models.spec.model_spec import ModelSpec
from models.spec.rows import parse_table, unread
from tests.tiny_model import TINY
from utils.config import ROOT

CONV = [-1, 1, "Conv", [8]]
ADVICE = "read by no row that leads to the head; were rows inserted without renumbering the head?"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([CONV, CONV, [[1], 1, "Detect", []]], ""),
        ([CONV, CONV, CONV, [[1], 1, "Detect", []]], f"row 2 (Conv) is {ADVICE}"),
        ([CONV, [-1, 1, "C3", [8]], [0, 1, "Conv", [8]], [[-1], 1, "Detect", []]], f"row 1 (C3) is {ADVICE}"),
        ([CONV, CONV, CONV, [0, 1, "Conv", [8]], [[-1, 0], 1, "Detect", []]], f"rows 1 (Conv), 2 (Conv) are {ADVICE}"),
    ],
)
def test_rows_that_do_not_lead_to_the_head(rows, expected):
    assert unread(parse_table(rows, "test.yaml")) == expected


def test_every_shipped_model_reads_all_its_rows():
    for path in sorted((ROOT / "models").rglob("*.yaml")):
        assert unread(ModelSpec.from_yaml(path).rows) == "", path
    assert unread(ModelSpec.from_dict(TINY, "tiny").rows) == ""
