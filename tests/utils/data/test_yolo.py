"""Each row of a YOLO label file is judged by itself."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

from utils.data.report import MOST_PER_FILE, Labels
from utils.data.yolo import count_classes, read_yolo

GOOD = "0 0.5 0.5 0.2 0.4"


def read(text: str | bytes, nc: int = 3) -> Labels:
    return read_yolo(Path("a.txt"), text.encode() if isinstance(text, str) else text, nc)


def test_boxes() -> None:
    labels = read("0 0.5 0.5 0.2 0.4\n2 0.1 0.2 0.05 1\n")
    assert labels.rows.tolist() == [[0, 0.5, 0.5, 0.2, 0.4], [2, 0.1, 0.2, 0.05, 1]]
    assert np.isnan(labels.area).all()
    assert not labels.crowd.any()
    assert [p.shape for p in labels.polygons] == [(0, 2)] * 2
    assert labels.findings.dropped == 0


def test_polygons_and_boxes_in_one_file() -> None:
    labels = read(f"{GOOD}\n1 0.1 0.2 0.5 0.2 0.3 0.8\n")
    assert labels.rows[0].tolist() == [0, 0.5, 0.5, 0.2, 0.4]
    np.testing.assert_allclose(labels.rows[1], [1, 0.3, 0.5, 0.4, 0.6])
    assert labels.polygons[0].shape == (0, 2)
    np.testing.assert_allclose(labels.polygons[1], [[0.1, 0.2], [0.5, 0.2], [0.3, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 0.5 0.5 0.2", "4 columns"),
        ("0 0.5 0.5 0.2 0.4 0.99", "6 columns.*confidence"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "8 columns"),
        ("0 nan 0.5 0.2 0.4", "nan is outside"),
        ("0 inf 0.5 0.2 0.4", "inf is outside"),
        ("0 -0.5 0.5 0.2 0.4", "-0.5 is outside 0 to 1$"),
        ("0 1.2 0.5 0.2 0.4", "1.2 is outside"),
        ("0 320 200 64 80", "320 is outside 0 to 1; pixels"),
        ("0 0.5 0.5 0 0.4", "no area"),
        ("1.5 0.5 0.5 0.2 0.4", "class 1.5 is not a whole number"),
        ("nan 0.5 0.5 0.2 0.4", "class nan is not a whole number"),
        ("inf 0.5 0.5 0.2 0.4", "class inf is not a whole number"),
        ("3 0.5 0.5 0.2 0.4", r"class 3 is outside 0 to 2 \(the data set has nc = 3\)"),
        ("-1 0.5 0.5 0.2 0.4", "class -1 is outside"),
        ("cat 0.5 0.5 0.2 0.4", "not a number.*cat"),
        ("0 0,5 0,5 0,2 0,4", "not a number.*0,5"),
        ("0, 0.5, 0.5, 0.2, 0.4", "not a number"),
        (GOOD, "repetition"),
        ("0 0.1 0.1 0.1 0.1 0.1 0.1", "no area"),
    ],
)
def test_a_bad_row_costs_itself_only(row: str, reason: str) -> None:
    labels = read(f"{GOOD}\n{row}\n1 0.5 0.5 0.2 0.4\n")
    assert labels.rows[:, 0].tolist() == [0, 1]
    assert labels.findings.dropped == 1
    (finding,) = labels.findings.all()
    assert str(finding).startswith("a.txt:2: ")
    assert re.search(reason, finding.text), finding.text


def test_rounding_errors_are_clipped() -> None:
    labels = read("0 1.0005 -0.0005 0.2 0.4\n")
    assert labels.rows.tolist() == [[0, 1, 0, 0.2, 0.4]]
    assert labels.findings.dropped == 0


def test_boxes_that_reach_over_the_edge_stay() -> None:
    assert read("0 0.01 0.99 0.5 0.5").rows.tolist() == [[0, 0.01, 0.99, 0.5, 0.5]]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.encode("utf-16"),
        GOOD.replace(" ", "\t").encode() + b"\r\n\r\n",
        b"  0.0 5e-1 .5 0.20 +0.4  \r",
    ],
)
def test_encodings_and_white_space(content: bytes) -> None:
    labels = read(content)
    assert labels.rows.tolist() == [[0, 0.5, 0.5, 0.2, 0.4]]
    assert labels.findings.dropped == 0


def test_other_bytes_cost_their_row() -> None:
    labels = read(GOOD.encode() + b"\n\xe9t\xe9 0.5 0.5 0.1 0.1\n\x00\x00\n")
    assert len(labels.rows) == 1
    assert labels.findings.dropped == 2


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_empty(content: bytes) -> None:
    labels = read(content)
    assert labels.rows.shape == (0, 5)
    assert labels.findings.dropped == 0


def test_findings_are_bounded_and_counts_exact() -> None:
    labels = read("9 0.5 0.5 0.1 0.1\n" * 1000 + GOOD)
    assert len(labels.rows) == 1
    assert labels.findings.dropped == 1000
    listed = labels.findings.all()
    assert len(listed) == MOST_PER_FILE + 1
    assert listed[-1].text == f"and {1000 - MOST_PER_FILE} more like these"


@pytest.mark.slow
def test_many_rows() -> None:
    rng = np.random.default_rng(0)
    rows = "\n".join(f"0 {x:.9f} {y:.9f} 0.1 0.1" for x, y in rng.random((200_000, 2)))
    start = time.perf_counter()
    assert len(read(rows + "\n9 9 9 9 9").rows) == 200_000
    assert time.perf_counter() - start < 30


def test_count_classes() -> None:
    assert count_classes(b"0 a\n7 b\nx 1\n99999999999999 1\n") == 8
    assert count_classes(b"") == 0
