"""Whatever a label file holds, the rows that come out lie within the image and the classes, and none is lost unsaid."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.data.labels.voc import read_voc
from utils.data.labels.yolo import read_yolo

FILE = Path("a.txt")
numbers = st.one_of(
    st.floats(-0.2, 1.2), st.floats(), st.integers(-3, 5), st.sampled_from(["nan", "inf", "1e400", "-0", "x", "", "1_0", "0x1", "٣", "½"])
)
rows = st.lists(st.lists(numbers, min_size=0, max_size=9), max_size=8)


@given(rows, st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_yolo_lines(table: list[list[object]], nc: int) -> None:
    lines = [" ".join(map(str, row)) for row in table]
    found = read_yolo(FILE, "\n".join(lines).encode(), nc)
    assert found.annotations.shape[1] == 5
    assert len(found.annotations) == len(found.polygons) == len(found.area) == len(found.crowd)
    assert len(found.annotations) + found.findings.dropped == sum(bool(line.strip()) for line in lines)
    assert np.isfinite(found.annotations).all()
    assert np.isin(found.annotations[:, 0], range(nc)).all()
    assert ((found.annotations[:, 1:] >= 0) & (found.annotations[:, 1:] <= 1)).all()
    assert (found.annotations[:, 3:] > 0).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 1), st.floats(0.001, 1)), max_size=6, unique=True))
@settings(max_examples=60, deadline=None)
def test_a_sound_yolo_file_comes_back_as_it_is(boxes: list[tuple[float, ...]]) -> None:
    found = read_yolo(FILE, "\n".join(f"0 {' '.join(map(repr, box))}" for box in boxes).encode(), 1)
    assert found.annotations[:, 1:].tolist() == [list(box) for box in boxes]
    assert found.findings.dropped == 0


@given(st.lists(st.tuples(st.sampled_from(["cat", "dog", "<b>", ""]), *[st.floats(-50, 200) | st.just(math.nan)] * 4), max_size=5))
@settings(max_examples=100, deadline=None)
def test_voc_objects(objects: list[tuple[str, float, float, float, float]]) -> None:
    entries = [
        f"<object><name>{name.replace('<', '&lt;')}</name><bndbox>{''.join(f'<{s}>{v}</{s}>' for s, v in box.items())}</bndbox></object>"
        for name, box in ((name, dict(zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))) for name, *sides in objects)
    ]
    found = read_voc(FILE, f"<annotation>{''.join(entries)}</annotation>".encode(), {"cat": 0, "dog": 1}, (60, 80))
    assert len(found.annotations) + found.findings.dropped == len(objects)
    assert np.isfinite(found.annotations).all()
    assert ((found.annotations[:, 1:] >= 0) & (found.annotations[:, 1:] <= 1)).all()
    assert (found.annotations[:, 3:] > 0).all()
