"""Warps, boxes and polygons against literal values and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from utils.config import Hyp
from utils.data.augment import geometry as geo


def test_default_warp_keeps_the_centre_of_a_larger_canvas() -> None:
    matrix = geo.warp_matrix(geo.Warp(), (200, 400), (100, 300))
    assert np.allclose(geo.transform(np.array([[200.0, 100.0], [50.0, 50.0]]), matrix), [[150, 50], [0, 0]])


def test_warp_matrix_turns_scales_shifts_and_flips_in_that_order() -> None:
    point = np.array([[60.0, 50.0]])  # 10 to the right of the centre of 100 x 100
    assert np.allclose(geo.transform(point, geo.warp_matrix(geo.Warp(angle=90), (100, 100), (100, 100))), [[50, 40]])
    assert np.allclose(geo.transform(point, geo.warp_matrix(geo.Warp(scale=2), (100, 100), (100, 100))), [[70, 50]])
    assert np.allclose(geo.transform(point, geo.warp_matrix(geo.Warp(shift=(0.6, 0.4)), (100, 100), (100, 100))), [[70, 40]])
    assert np.allclose(geo.transform(point, geo.warp_matrix(geo.Warp(shift=(0.6, 0.4), flip_x=True), (100, 100), (100, 100))), [[30, 40]])
    assert np.allclose(geo.transform(point, geo.warp_matrix(geo.Warp(flip_y=True, shift=(0.5, 0.4)), (100, 100), (100, 100))), [[60, 60]])
    assert np.allclose(geo.transform(point, geo.warp_matrix(geo.Warp(shear=(0, 45)), (100, 100), (100, 100))), [[60, 60]])
    assert np.allclose(
        geo.transform(point, geo.warp_matrix(geo.Warp(perspective=(0.01, 0)), (100, 100), (100, 100))), [[50 + 10 / 1.1, 50]]
    )


def test_a_perspective_never_reaches_the_horizon() -> None:
    matrix = geo.warp_matrix(geo.Warp(perspective=(0.01, -0.01)), (1280, 1280), (640, 640))
    depth = geo.corners(np.array([[0.0, 0, 1280, 1280]]))[0] @ matrix[2, :2] + matrix[2, 2]
    assert depth.min() == pytest.approx(0.2)


def test_draws_stay_in_range_and_do_not_depend_on_each_other() -> None:
    hyp = Hyp(degrees=10, translate=0.2, scale=0.5, shear=3, perspective=0.001, flipud=0.5, fliplr=0.5)
    warps = [geo.draw_warp(np.random.default_rng(i), hyp) for i in range(200)]
    assert all(abs(w.angle) <= 10 and 0.5 <= w.scale <= 1.5 and abs(w.shear[1]) <= 3 for w in warps)
    assert all(0.3 <= w.shift[0] <= 0.7 and abs(w.perspective[0]) <= 0.001 for w in warps)
    assert 60 < sum(w.flip_x for w in warps) < 140
    assert 60 < sum(w.flip_y for w in warps) < 140
    still = [geo.draw_warp(np.random.default_rng(i), Hyp(degrees=0, translate=0.2, scale=0.5)) for i in range(200)]
    assert [w.scale for w in still] == [w.scale for w in warps]
    assert min(geo.draw_warp(np.random.default_rng(i), Hyp(scale=1)).scale for i in range(500)) >= 0.01


def test_boxes_are_boxed_again_after_a_turn() -> None:
    matrix = geo.warp_matrix(geo.Warp(angle=90), (100, 100), (100, 100))
    assert np.allclose(geo.transform_boxes(np.array([[10, 20, 40, 30]], np.float32), matrix), [[20, 60, 30, 90]], atol=1e-4)
    assert geo.transform_boxes(np.zeros((0, 4), np.float32), matrix).shape == (0, 4)


def test_candidates_at_their_thresholds() -> None:
    before = np.array([[0, 0, 10, 10]] * 6, np.float32)
    after = np.array([[0, 0, 2, 10], [0, 0, 2.1, 10], [0, 0, 3, 3.3], [0, 0, 3, 3.4], [0, 0, 3, 300], [0, 0, 3, 299]], np.float32)
    assert geo.candidates(before, after).tolist() == [False, True, False, True, False, True]
    assert geo.candidates(before * 4, after, min_share=0.01).tolist() == [False, True, False, False, False, True]


def test_overlap_share_is_of_the_other_boxes() -> None:
    share = geo.overlap_share(np.array([0, 0, 10, 10], np.float32), np.array([[5, 0, 15, 10], [2, 2, 4, 4], [20, 0, 30, 9]], np.float32))
    assert np.allclose(share, [0.5, 1, 0])


def test_polygon_boxes_by_hand() -> None:
    triangle = np.array([[-10, 5], [10, -15], [10, 25]], np.float32)  # its tip is outside on the left, its other corners above and below
    outside = np.array([[30, 30], [40, 30], [35, 40]], np.float32)
    around = np.array([[-100, -100], [100, -100], [100, 100], [-100, 100]], np.float32)
    corner = np.array([[-5, 5], [5, -5], [-5, -5]], np.float32)  # touches the image at (0, 0) only
    boxes = geo.polygon_boxes([triangle, outside, around, corner], (20, 20))
    assert np.allclose(boxes, [[0, 0, 10, 20], [0, 0, 0, 0], [0, 0, 20, 20], [0, 0, 0, 0]], atol=1e-4)
    assert geo.polygon_boxes([], (20, 20)).shape == (0, 4)


def test_polygon_boxes_equal_dense_sampling() -> None:
    rng = np.random.default_rng(0)
    polygons = [(rng.uniform(-60, 160, 2) + rng.uniform(5, 80, 2) * rng.uniform(-1, 1, (rng.integers(3, 40), 2))) for _ in range(200)]
    exact = geo.polygon_boxes(polygons, (90, 100))
    for polygon, box in zip(polygons, exact, strict=True):
        closed = np.concatenate((polygon, polygon[:1]))
        at = np.linspace(0, len(closed) - 1, 20000)
        points = np.stack([np.interp(at, np.arange(len(closed)), closed[:, k]) for k in (0, 1)], 1)
        points = points[(points >= 0).all(1) & (points <= (100, 90)).all(1)]
        if len(points):
            assert np.allclose(box, [*points.min(0), *points.max(0)], atol=0.6)
        else:
            assert box[2] - box[0] in (0, 100) or box[2] - box[0] < 0.6


def test_clip_polygon_cuts_at_the_edge() -> None:
    triangle = np.array([[-10, 5], [10, -15], [10, 25]], np.float32)
    clipped = geo.clip_polygon(triangle, (20, 20))
    assert clipped.min() >= 0
    assert clipped.max() <= 20
    x, y = clipped.T
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    # From x = 0, where it spans -5..15, to x = 10, where it spans -15..25; of that 0..20: bounded by x and 15 + x.
    assert area == pytest.approx(5 * (15 + 20) / 2 + 5 * 20, abs=1e-3)
    assert len(geo.clip_polygon(np.array([[30, 30], [40, 30], [35, 40]], np.float32), (20, 20))) == 0
