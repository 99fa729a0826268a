"""Rendered mosaics against a plain implementation: paint the whole canvas, then warp it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from utils.data.augment import geometry as geo
from utils.data.augment.mosaic import gather, paste_mirrored, place_mosaic, place_single, project, render, visible

SIDE = 96
CANVAS = (2 * SIDE, 2 * SIDE)
SIZES = ((70, 96), (96, 50), (60, 60), (40, 80))


def pictures(seed: int = 0) -> dict[int, NDArray[np.uint8]]:
    """Smooth pictures, so that interpolating twice is nearly interpolating once."""
    rng = np.random.default_rng(seed)
    return {
        i: cv2.resize(rng.integers(0, 256, (5, 5, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC) for i, size in enumerate(SIZES)
    }


def canvas_of(images: dict[int, NDArray[np.uint8]], placements) -> NDArray[np.uint8]:
    """Paint the canvas of twice the size, as the description of a mosaic says."""
    canvas = np.full((*CANVAS, 3), 114, np.uint8)
    for placement in placements:
        scaled = cv2.resize(images[placement.index], placement.size[::-1], interpolation=cv2.INTER_LINEAR)
        left, top = max(placement.left, 0), max(placement.top, 0)
        right, bottom = min(placement.left + placement.size[1], CANVAS[1]), min(placement.top + placement.size[0], CANVAS[0])
        canvas[top:bottom, left:right] = scaled[
            top - placement.top : bottom - placement.top, left - placement.left : right - placement.left
        ]
    return canvas


def warped(canvas: NDArray[np.uint8], matrix: NDArray[np.float64], fill: int = 114) -> NDArray[np.uint8]:
    return cv2.warpPerspective(canvas, geo.centred(matrix), (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=(fill, fill, fill))


WARPS = [
    geo.Warp(),
    geo.Warp(scale=0.5, shift=(0.45, 0.58)),
    geo.Warp(scale=0.3, shift=(0.6, 0.5)),
    geo.Warp(scale=1.4, shift=(0.55, 0.42), flip_x=True),
    geo.Warp(scale=0.8, flip_y=True, flip_x=True),
    geo.Warp(angle=25, scale=0.7, shear=(5, -8), shift=(0.52, 0.47)),
    geo.Warp(angle=-10, scale=0.9, perspective=(0.001, -0.0015), flip_x=True),
]


@pytest.mark.parametrize("warp", WARPS)
@pytest.mark.parametrize("centre", [(96, 96), (50, 140), (143, 61)])
def test_one_warp_a_tile_equals_painting_the_canvas(warp: geo.Warp, centre: tuple[int, int]) -> None:
    images = pictures()
    placements = place_mosaic((0, 1, 2, 3), SIZES, centre, SIDE)
    matrix = geo.warp_matrix(warp, CANVAS, (SIDE, SIDE))
    needed = visible(placements, (), CANVAS, matrix, (SIDE, SIDE))
    ours = render({i: images[i] for i in needed}, placements, (), CANVAS, matrix, (SIDE, SIDE)).astype(int)
    plain = warped(canvas_of(images, placements), matrix).astype(int)
    difference = np.abs(ours - plain).max(2)
    # Where two placements meet, the plain way blends them; away from seams both agree to rounding.
    edges = warped(seams(placements), matrix, fill=255).min(2) < 255
    assert difference[~edges].max() <= 4
    assert np.mean(difference[~edges]) < 0.7
    assert edges.mean() < 0.3


def seams(placements) -> NDArray[np.uint8]:
    """A white canvas with a black line of four pixels along each placement's outline."""
    canvas = np.full((*CANVAS, 3), 255, np.uint8)
    for placement in placements:
        left, top, right, bottom = (int(v) for v in placement.outline(CANVAS)[0])
        cv2.rectangle(canvas, (left - 1, top - 1), (right, bottom), (0, 0, 0), 3)
    return canvas


def test_an_unmoved_mosaic_is_exact() -> None:
    images = {i: np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), np.uint8) for i in range(4)}
    placements = place_mosaic((3, 1, 0, 2), [(SIDE, SIDE)] * 4, (100, 80), SIDE)
    out = render(images, placements, (), CANVAS, geo.warp_matrix(geo.Warp(), CANVAS, (SIDE, SIDE)), (SIDE, SIDE))
    # The output is the canvas from 48 to 144 both ways; the four touch at (100, 80) there, which is (52, 32) here.
    assert np.array_equal(out[:32, :52], images[3][SIDE - 32 :, SIDE - 52 :])
    assert np.array_equal(out[:32, 52:], images[1][SIDE - 32 :, : SIDE - 52])
    assert np.array_equal(out[32:, :52], images[0][: SIDE - 32, SIDE - 52 :])
    assert np.array_equal(out[32:, 52:], images[2][: SIDE - 32, : SIDE - 52])


def test_boxes_follow_the_pixels() -> None:
    """A white rectangle in each picture is found where its label says, to within a pixel."""
    labels = [np.array([[k, 0.4, 0.5, 0.3, 0.4]], np.float32) for k in range(4)]
    for warp in WARPS[:5]:
        matrix = geo.warp_matrix(warp, CANVAS, (SIDE, SIDE))
        placements = place_mosaic((0, 1, 2, 3), SIZES, (90, 100), SIDE)
        rows = project(gather(placements, labels, [[]] * 4, CANVAS), matrix, (SIDE, SIDE), scale=warp.scale)
        assert len(rows)
        for row in rows:
            images = {i: np.zeros((*size, 3), np.uint8) for i, size in enumerate(SIZES)}
            height, width = SIZES[int(row[0])]
            images[int(row[0])][round(0.3 * height) : round(0.7 * height), round(0.25 * width) : round(0.55 * width)] = 255
            lit = np.argwhere(render(images, placements, (), CANVAS, matrix, (SIDE, SIDE))[..., 0] > 127)
            found = np.array([*lit.min(0)[::-1], *(lit.max(0)[::-1] + 1)])
            assert np.abs(found - row[1:]).max() <= 1.2


def test_boxes_equal_the_plain_formula() -> None:
    rng = np.random.default_rng(3)
    labels = [
        np.concatenate((np.full((9, 1), k), rng.uniform(0.3, 0.7, (9, 2)), rng.uniform(0.02, 0.6, (9, 2))), 1).astype(np.float32)
        for k in range(4)
    ]
    placements = place_mosaic((0, 1, 2, 3), SIZES, (70, 110), SIDE)
    for warp in WARPS:
        matrix = geo.warp_matrix(warp, CANVAS, (SIDE, SIDE))
        rows = project(gather(placements, labels, [[]] * 4, CANVAS), matrix, (SIDE, SIDE), scale=warp.scale)
        expected = []
        for placement, some in zip(placements, labels, strict=True):
            for k, cx, cy, w, h in some.astype(float):
                x = np.clip(placement.left + placement.size[1] * np.array([cx - w / 2, cx + w / 2]), 0, CANVAS[1])
                y = np.clip(placement.top + placement.size[0] * np.array([cy - h / 2, cy + h / 2]), 0, CANVAS[0])
                corner = matrix @ np.array([[a, b, 1] for a in x for b in y]).T
                u, v = np.clip(corner[0] / corner[2], 0, SIDE), np.clip(corner[1] / corner[2], 0, SIDE)
                nw, nh, old = np.ptp(u), np.ptp(v), np.ptp(x) * np.ptp(y) * warp.scale**2
                if nw > 2 and nh > 2 and nw * nh > 0.1 * old and max(nw / nh, nh / nw) < 100:
                    expected.append([k, u.min(), v.min(), u.max(), v.max()])
        assert np.allclose(rows, np.array(expected), atol=1e-3)


def test_tiles_out_of_sight_are_not_needed() -> None:
    placements = place_mosaic((7, 8, 9, 5), SIZES, (96, 96), SIDE)
    matrix = geo.warp_matrix(geo.Warp(scale=1.9, shift=(1.2, 1.2)), CANVAS, (SIDE, SIDE))
    assert visible(placements, (), CANVAS, matrix, (SIDE, SIDE)) == [7]
    out = render({7: pictures()[0]}, placements, (), CANVAS, matrix, (SIDE, SIDE))
    assert out.shape == (SIDE, SIDE, 3)


def test_a_single_image_is_letterboxed() -> None:
    placements = place_single(4, (50, 100), (SIDE, SIDE))
    assert placements[0].size == (48, 96)
    assert (placements[0].left, placements[0].top) == (0, 24)
    out = render({4: np.full((50, 100, 3), 200, np.uint8)}, placements, (), (SIDE, SIDE), np.eye(3), (SIDE, SIDE))
    assert (out[24:72] == 200).all()
    assert (out[:24] == 114).all()
    assert (out[72:] == 114).all()


def test_polygons_make_tighter_boxes_than_boxes() -> None:
    diamond = np.array([[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]], np.float32)
    placements = place_single(0, (SIDE, SIDE), (SIDE, SIDE))
    label = [np.array([[0, 0.5, 0.5, 1, 1]], np.float32)]
    matrix = geo.warp_matrix(geo.Warp(angle=45), (SIDE, SIDE), (SIDE, SIDE))
    loose = project(gather(placements, label, [[]], (SIDE, SIDE)), matrix, (SIDE, SIDE))
    tight = project(gather(placements, label, [[diamond]], (SIDE, SIDE)), matrix, (SIDE, SIDE))
    half = SIDE / 2 / np.sqrt(2)
    assert np.allclose(loose, [[0, 0, 0, SIDE, SIDE]])
    assert np.allclose(tight, [[0, 48 - half, 48 - half, 48 + half, 48 + half]], atol=1e-3)


def test_paste_draws_the_object_mirrored() -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[20:40, 10:20] = 90  # left half of the object
    image[20:40, 20:30] = 250  # right half
    square = np.array([[10, 20], [30, 20], [30, 40], [10, 40]], np.float32) / SIDE
    placements = place_single(0, (SIDE, SIDE), (SIDE, SIDE))
    objects = gather(placements, [np.array([[2, 20 / SIDE, 30 / SIDE, 20 / SIDE, 20 / SIDE]], np.float32)], [[square]], (SIDE, SIDE))
    objects, pastes = paste_mirrored(objects, [0], SIDE)
    assert np.allclose(objects.boxes, [[10, 20, 30, 40], [66, 20, 86, 40]])
    out = render({0: image}, placements, pastes, (SIDE, SIDE), np.eye(3), (SIDE, SIDE))
    assert (out[21:39, 68:75] == 250).all()
    assert (out[21:39, 77:84] == 90).all()
    assert (out[21:39, 12:18] == 90).all()
    rows = project(objects, np.eye(3), (SIDE, SIDE))
    assert np.allclose(rows, [[2, 10, 20, 30, 40], [2, 66, 20, 86, 40]], atol=1e-3)


def test_paste_leaves_out_what_would_hide_others() -> None:
    placements = place_single(0, (SIDE, SIDE), (SIDE, SIDE))
    middle = np.array([[40, 20], [56, 20], [56, 40], [40, 40]], np.float32) / SIDE
    objects = gather(placements, [np.array([[2, 0.5, 30 / SIDE, 16 / SIDE, 20 / SIDE]], np.float32)], [[middle]], (SIDE, SIDE))
    added, pastes = paste_mirrored(objects, [0], SIDE)
    assert pastes == ()
    assert len(added.boxes) == 1
