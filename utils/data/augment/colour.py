"""Colour jitter in HSV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.config import Hyp

Gains = tuple[float, float, float]

_STRIPE = 64
"""Lines converted at a time, so that the intermediate arrays stay in the CPU's cache."""


def draw_gains(rng: np.random.Generator, hyp: Hyp) -> Gains:
    """Draw factors for hue, saturation and value, each 1 plus or minus its hyper-parameter."""
    h, s, v = rng.uniform(-1, 1, 3)
    return 1 + float(h * hyp.hsv_h), 1 + float(s * hyp.hsv_s), 1 + float(v * hyp.hsv_v)


def jitter(image: NDArray[np.uint8], gains: Gains, out: NDArray[np.uint8]) -> None:
    """Write a (H, W, 3) BGR image as (3, H, W) RGB into `out`, hue (modulo its circle), saturation and value scaled."""
    if gains == (1.0, 1.0, 1.0):
        split_rgb(image, out)
        return
    turn = (np.arange(256) * gains[0] % 180).astype(np.uint8)
    for top in range(0, len(image), _STRIPE):
        stripe = image[top : top + _STRIPE]
        hsv = cv2.cvtColor(stripe, cv2.COLOR_BGR2HSV)
        hue, saturation, value = cv2.split(hsv)
        cv2.LUT(hue, turn, dst=hue)
        cv2.convertScaleAbs(saturation, dst=saturation, alpha=gains[1])
        cv2.convertScaleAbs(value, dst=value, alpha=gains[2])
        cv2.merge((hue, saturation, value), dst=hsv)
        cv2.split(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), list(out[:, top : top + _STRIPE]))


def split_rgb(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write a (H, W, 3) BGR image as (3, H, W) RGB into `out`."""
    cv2.split(image, list(out[::-1]))
