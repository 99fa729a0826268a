"""Each row of a YOLO label file is judged by itself."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from utils.data.labels.label_report import KINDS, MAX_PER_FILE, ImageAnnotations
from utils.data.labels.yolo import _key, count_classes, read_yolo

GOOD = "0 0.5 0.5 0.2 0.4"


def read(text: str | bytes, nc: int = 3) -> ImageAnnotations:
    return read_yolo(Path("a.txt"), text.encode() if isinstance(text, str) else text, nc)


def test_boxes() -> None:
    labels = read("0 0.5 0.5 0.2 0.4\n2 0.1 0.2 0.05 1\n")
    assert labels.annotations.tolist() == [[0, 0.5, 0.5, 0.2, 0.4], [2, 0.1, 0.2, 0.05, 1]]
    assert np.isnan(labels.area).all()
    assert not labels.crowd.any()
    assert [p.shape for p in labels.polygons] == [(0, 2)] * 2
    assert labels.findings.dropped == 0


def test_polygons_and_boxes_in_one_file() -> None:
    labels = read(f"{GOOD}\n1 0.1 0.2 0.5 0.2 0.3 0.8\n")
    assert labels.annotations[0].tolist() == [0, 0.5, 0.5, 0.2, 0.4]
    np.testing.assert_allclose(labels.annotations[1], [1, 0.3, 0.5, 0.4, 0.6])
    assert labels.polygons[0].shape == (0, 2)
    np.testing.assert_allclose(labels.polygons[1], [[0.1, 0.2], [0.5, 0.2], [0.3, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 0.5 0.5 0.2", "4 columns"),
        ("0 0.5 0.5 0.2 0.4 0.99", "6 columns.*confidence"),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "8 columns.*key points.*'kpt_shape: \\[1, 3\\]'"),
        ("0 0.5 0.5 0.2 0.2 0.5 0.5 2 0.4 0.4 2", "coordinate 2 is outside.*'kpt_shape: \\[2, 3\\]'"),
        ("0 nan 0.5 0.2 0.4", "nan is outside"),
        ("0 inf 0.5 0.2 0.4", "inf is outside"),
        ("0 -0.5 0.5 0.2 0.4", "-0.5 is outside 0 to 1$"),
        ("0 1.2 0.5 0.2 0.4", "1.2 is outside"),
        ("0 320 200 64 80", "320 is outside 0 to 1; pixels"),
        ("0 0.5 0.5 0 0.4", "no area"),
        ("1.5 0.5 0.5 0.2 0.4", "class 1.5 is not an integer"),
        ("nan 0.5 0.5 0.2 0.4", "class nan is not an integer"),
        ("inf 0.5 0.5 0.2 0.4", "class inf is not an integer"),
        ("3 0.5 0.5 0.2 0.4", r"class 3 is outside 0 to 2 \(the dataset has nc = 3\)"),
        ("-1 0.5 0.5 0.2 0.4", "class -1 is outside"),
        ("cat 0.5 0.5 0.2 0.4", "not a number.*cat"),
        ("0 0,5 0,5 0,2 0,4", "not a number.*0,5"),
        ("0, 0.5, 0.5, 0.2, 0.4", "not a number"),
        ("0,0.5,0.5,0.2,0.4", "1 columns.*columns are separated by spaces"),
        ("0 0.5 0.5 0.2 0.0_4", "not a number.*0.0_4"),
        ("0 0x1p-1 0.5 0.2 0.4", "not a number"),
        ("0 0,5 0,5 0,2 0,4", "decimals are written with a point"),
        ("disc 0.5 0.5 0.2 0.4", "the number of the class, from 0, not its name"),
        ("1e300 0.5 0.5 0.2 0.4", r"class 1e\+300 is outside"),
        (GOOD, "repetition"),
        ("0 0.1 0.1 0.1 0.1 0.1 0.1", "no area"),
    ],
)
def test_an_invalid_line_costs_itself_only(row: str, reason: str) -> None:
    labels = read(f"{GOOD}\n{row}\n1 0.5 0.5 0.2 0.4\n")
    assert labels.annotations[:, 0].tolist() == [0, 1]
    assert labels.findings.dropped == 1
    (finding,) = labels.findings.all()
    assert str(finding).startswith("a.txt:2: ")
    assert re.search(reason, finding.text), finding.text


def test_rounding_errors_are_clipped() -> None:
    labels = read("0 1.0005 -0.0005 0.2 0.4\n")
    assert labels.annotations.tolist() == [[0, 1, 0, 0.2, 0.4]]
    assert labels.findings.dropped == 0


def test_boxes_that_reach_over_the_edge_stay() -> None:
    assert read("0 0.01 0.99 0.5 0.5").annotations.tolist() == [[0, 0.01, 0.99, 0.5, 0.5]]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.encode("utf-16"),
        GOOD.replace(" ", "\t").encode() + b"\r\n\r\n",
        b"  0.0 5e-1 .5 0.20 +0.4  \r",
        b"# a remark\r" + GOOD.encode() + b"  # another\r#",
        GOOD.encode("utf-16-le"),
        GOOD.encode("utf-16-be"),
    ],
)
def test_encodings_and_white_space(content: bytes) -> None:
    labels = read(content)
    assert labels.annotations.tolist() == [[0, 0.5, 0.5, 0.2, 0.4]]
    assert labels.findings.dropped == 0


def test_other_bytes_cost_their_line() -> None:
    labels = read(GOOD.encode() + b"\n\xe9t\xe9 0.5 0.5 0.1 0.1\n\x00\x00\n")
    assert len(labels.annotations) == 1
    assert labels.findings.dropped == 2


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_empty(content: bytes) -> None:
    labels = read(content)
    assert labels.annotations.shape == (0, 5)
    assert labels.findings.dropped == 0


def test_findings_are_bounded_and_counts_exact() -> None:
    labels = read("9 0.5 0.5 0.1 0.1\n" * 1000 + GOOD)
    assert len(labels.annotations) == 1
    assert labels.findings.dropped == 1000
    listed = labels.findings.all()
    assert len(listed) == MAX_PER_FILE + 1
    assert listed[-1].text == f"and {1000 - MAX_PER_FILE} more like these"


def test_each_kind_is_counted() -> None:
    rows = ["9 .5 .5 .1 .1"] * 70 + ["0 2 .5 .1 .1"] * 30 + ["x .5 .5 .1 .1", "0 .5", "0 .5 .5 0 .1", GOOD, GOOD]
    labels = read("\n".join(rows))
    assert labels.findings.kinds == {"class": 70, "range": 30, "number": 1, "columns": 1, "area": 1, "repetition": 1}
    assert set(labels.findings.kinds) <= KINDS.keys()


def test_a_message_does_not_grow_with_the_line() -> None:
    (finding,) = read("0 0.5 0.5 0.1 " + "x" * 100_000).findings.all()
    assert len(finding.text) < 400


def test_blank_lines_are_no_annotations() -> None:
    assert read("\n" * 20).annotations.shape == (0, 5)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", "\n9 9 9 9 9"])
def test_a_million_lines(ending: str) -> None:
    rng = np.random.default_rng(0)
    rows = "\n".join(f"0 {x:.9f} {y:.9f} 0.1 0.1" for x, y in rng.random((1_000_000, 2)))
    labels = read(rows + ending)
    assert len(labels.annotations) == 1_000_000
    assert labels.findings.dropped == bool(ending)


def test_count_classes() -> None:
    assert count_classes(b"0 a\n7 b\nx 1\n99999999999999 1\n") == 8
    assert count_classes(b"") == 0


def test_key_points_are_not_read() -> None:
    rows = [f"{GOOD} 0.4 0.4 2 0 0 0", "1 0.5 0.5 0.2 0.4", "2 0.1 0.2 0.5 0.2 0.3 0.8"]
    labels = read_yolo(Path("a.txt"), "\n".join(rows).encode(), 3, keypoints=6)
    assert labels.annotations.tolist() == [[0, 0.5, 0.5, 0.2, 0.4], [1, 0.5, 0.5, 0.2, 0.4]]
    assert [polygon.shape for polygon in labels.polygons] == [(0, 2)] * 2
    assert [finding.text for finding in labels.findings.all()] == ["7 columns; with this kpt_shape a line has 11, or 5 without key points"]
    whole = read_yolo(Path("a.txt"), "\n".join(rows[:2]).encode(), 3, keypoints=6)
    assert whole.annotations.tolist() == labels.annotations.tolist()


def test_boxes_whose_hashes_are_equal_as_tuples() -> None:
    """Powers of 2 that are 61 apart have one hash in Python: 17**4 such boxes of 7 MB would take minutes to tell apart by it."""
    powers = [0.5 * 2.0 ** (-61 * k) for k in range(6)]
    boxes = [(0.0, *sides) for sides in itertools.product(powers, repeat=4)]
    assert len(set(map(hash, boxes))) == 1
    assert len({hash(_key(list(box))) for box in boxes}) == len(boxes)
    text = "".join(f"{cls:g} {cx!r} {cy!r} {w!r} {h!r}\n" for cls, cx, cy, w, h in boxes)
    for lines in (text, f"{text}9 1 1 1 1\n", f"{text}0 .5 .5 .5 .5\n"):
        assert len(read(lines, nc=1).annotations) == len(boxes)


def test_zero_is_the_same_with_either_sign() -> None:
    assert len(read("0 0 .5 .1 .1\n0 -0.0 .5 .1 .1\n").annotations) == 1
