"""A user's own augmentation: called with what it is promised, and refused with one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from utils.data.augment.user import UserTransform
from utils.data.loading.dataset import _transformed
from utils.errors import UserError

MIRROR = """
def mirror(image, boxes, classes, rng):
    image = image[:, ::-1].copy()
    if rng.random() < 2:
        image[0, 0] = 7
    boxes[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return image, boxes, classes
"""


def given(folder: Path, code: str, name: str = "mirror") -> UserTransform:
    path = folder / "mine.py"
    path.write_text(code, encoding="utf-8")
    return UserTransform(f"{path}:{name}", 3)


def test_it_changes_image_and_annotations(tmp_path: Path) -> None:
    out = np.arange(3 * 4 * 8, dtype=np.uint8).reshape(3, 4, 8)
    before = out.copy()
    annotations = np.array([[2, 0.25, 0.5, 0.25, 0.5]], np.float32)
    found = _transformed(given(tmp_path, MIRROR), annotations, out, np.random.default_rng(0))
    np.testing.assert_allclose(found, [[2, 0.75, 0.5, 0.25, 0.5]], rtol=1e-6)
    assert (out[:, 0, 0] == 7).all()
    np.testing.assert_array_equal(out[:, 1:], before[:, 1:, ::-1])
    assert found.dtype == np.float32
    assert not (tmp_path / "__pycache__").exists()


def test_boxes_are_cut_and_empty_ones_dropped(tmp_path: Path) -> None:
    code = "def mirror(i, b, c, rng):\n    return i, [[-5, 1, 4, 3], [9, 0, 12, 4]], [0, 1]\n"
    transform = given(tmp_path, code)
    image = np.zeros((4, 8, 3), np.uint8)
    _, boxes, classes = transform(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.random.default_rng(0))
    np.testing.assert_array_equal(boxes, [[0, 1, 4, 3]])
    np.testing.assert_array_equal(classes, [0])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("i[:2], b, c", r"returned an image \(2, 8, 3\) of uint8, not \(4, 8, 3\)"),
        ("i.astype(float), b, c", "of float64"),
        ("i, b, [1]", "0 boxes and 1 classes"),
        ("i, [[0, 0, 1, 1]], [3]", "none of 0 to 2"),
        ("i, [[0, 0, 1, float('nan')]], [1]", "NaN"),
        ("None", "TypeError"),
        ("i, b, missing", "NameError"),
    ],
)
def test_what_it_returns_is_checked(tmp_path: Path, returned: str, message: str) -> None:
    transform = given(tmp_path, f"def mirror(i, b, c, rng):\n    return {returned}\n")
    with pytest.raises(UserError, match=message):
        transform(np.zeros((4, 8, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.random.default_rng(0))


def test_a_file_or_function_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a file that exists"):
        UserTransform("mine.py", 3)
    with pytest.raises(UserError, match="no function 'other'"):
        given(tmp_path, MIRROR, "other")
    with pytest.raises(UserError, match="SyntaxError"):
        given(tmp_path, "def mirror(:", "third")
