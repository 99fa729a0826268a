"""Colour jitter against the standard library's conversions."""

from __future__ import annotations

import colorsys

import numpy as np

from utils.config import Hyp
from utils.data.augment.colour import draw_gains, jitter


def test_without_gains_bgr_becomes_rgb() -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)
    out = np.empty((3, 70, 50), np.uint8)
    jitter(image, (1.0, 1.0, 1.0), out)
    assert np.array_equal(out, image[..., ::-1].transpose(2, 0, 1))


def test_gains_agree_with_colorsys() -> None:
    image = np.random.default_rng(0).integers(40, 200, (130, 4, 3), np.uint8)
    before = image.copy()
    out = np.empty((3, 130, 4), np.uint8)
    jitter(image, (1.0, 0.6, 1.2), out)
    assert np.array_equal(image, before)
    for (y, x), _ in np.ndenumerate(image[..., 0]):
        h, s, v = colorsys.rgb_to_hsv(*(image[y, x, ::-1] / 255))
        expected = np.array(colorsys.hsv_to_rgb(h, min(s * 0.6, 1), min(v * 1.2, 1))) * 255
        assert np.abs(out[:, y, x] - expected).max() < 5  # 8-bit hue has steps of two degrees


def test_hue_wraps_round() -> None:
    image = np.full((1, 1, 3), (40, 20, 220), np.uint8)  # a red of hue 354 degrees
    out = np.empty((3, 1, 1), np.uint8)
    jitter(image, (1.03, 1.0, 1.0), out)  # 354 * 1.03 is 4.6 degrees
    assert out[0, 0, 0] > 200
    assert 20 <= out[2, 0, 0] <= 30
    assert out[1, 0, 0] > out[2, 0, 0]


def test_drawn_gains_stay_in_range() -> None:
    gains = np.array([draw_gains(np.random.default_rng(i), Hyp(hsv_h=0.1, hsv_s=0.7, hsv_v=0.4)) for i in range(300)])
    assert (np.abs(gains - 1) <= (0.1, 0.7, 0.4)).all()
    assert (np.abs(gains - 1).max(0) > (0.09, 0.63, 0.36)).all()
