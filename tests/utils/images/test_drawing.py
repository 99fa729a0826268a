"""Drawing leaves the input alone, stays inside the image, and tells classes apart."""

import itertools

import numpy as np
import pytest

from utils.images.drawing import colour, draw_boxes, draw_text, text_colour, text_mask


def test_the_image_is_not_drawn_on() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    out = draw_boxes(image, np.array([[10, 30, 40, 50]], np.float32), ["ship"], [0], line_width=1)
    assert not image.any()
    assert tuple(out[50, 25]) == colour(0)
    assert tuple(out[40, 25]) == (0, 0, 0)


def test_a_tag_stays_inside_the_image() -> None:
    for box in ([0, 0, 5, 5], [350, 0, 359, 20], [355, 325, 359, 329], [-30, -30, 700, 700], [390, 390, 395, 395]):
        out = draw_boxes(np.zeros((330, 360, 3), np.uint8), np.array([box], np.float32), ["ship"], [3], line_width=1)
        rows, columns = np.nonzero((out == colour(3)).all(2))
        wide, high = text_mask("ship", 10).shape[::-1]
        assert np.ptp(columns) + 1 >= wide
        assert np.ptp(rows) + 1 >= high // 2


@pytest.mark.parametrize("side", [160, 640])
def test_a_small_image_is_not_buried(side: int) -> None:
    image = np.zeros((side, side, 3), np.uint8)
    boxes = np.array([[20, 40, 40, 60], [60, 40, 150, 120]], np.float32)
    out = draw_boxes(image, boxes, ["ship 0.94", "ship 0.94"], [0, 1], line_width=3)
    assert out[20:36, 20:38].any() == (side == 640), "the tag of the box that is narrower than it"
    assert out[25:39, 64:90].any(), "that of the wider box"
    assert (out[80, 55:70] == colour(1)).all(1).sum() == (1 if side == 160 else 5), "OpenCV draws 3 as 5"


def test_no_label_no_tag() -> None:
    out = draw_boxes(np.zeros((60, 80, 3), np.uint8), np.array([[10, 30, 40, 50]], np.float32), [""], [0], line_width=1)
    assert not out[:29].any()


def test_no_boxes() -> None:
    image = np.full((6, 8, 3), 7, np.uint8)
    np.testing.assert_array_equal(draw_boxes(image, np.zeros((0, 4), np.float32), [], []), image)


@pytest.mark.parametrize("text", ["Größe", "кошка", "日本", "", "a\tb", "\u202eabc"])
def test_any_text_can_be_set(text: str) -> None:
    assert text_mask(text, 14).shape[0] == text_mask("x", 14).shape[0]


def test_text_outside_the_image_is_cut_off() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    for left, top in ((-4, -4), (8, 8), (100, 0), (0, -100)):
        draw_text(image, "MMM", left, top, (255, 255, 255), 12)
    assert image.any()


def test_colours_of_neighbouring_classes_differ() -> None:
    assert len({colour(i) for i in range(80)}) == 80
    for a, b in itertools.pairwise(range(80)):
        assert sum(abs(p - q) for p, q in zip(colour(a), colour(b), strict=True)) > 100
    assert {text_colour(colour(i)) for i in range(80)} == {(0, 0, 0), (255, 255, 255)}
