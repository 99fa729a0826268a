"""Which images of a study are shown: those on which the variants disagree most, and some picked blindly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.compare.match_store import StoredMatches

SHOWN_CONF = 0.25
"""Detections below are neither drawn nor counted."""
_HALF = 0  # of the ten IoU thresholds: 0.50
_ANY = 0  # of the four areas: all


class ChosenImage(NamedTuple):
    """An image to show: its number in the index, and why it was chosen."""

    image: int
    why: str


def choose(matches: Sequence[StoredMatches], *, differing: int = 4, blind: int = 2) -> list[ChosenImage]:
    """Choose images, always the same of the same matches.

    Args:
        matches: of the variants, on the same images.
        differing: how many of those on which right minus wrong detections at IoU 0.5 differ most between the variants.
        blind: how many of the rest, drawn with a fixed seed.
    """
    images = matches[0].images
    scores = np.stack([right_minus_wrong(m) for m in matches if m.same_ground_truth(matches[0])])
    gap = scores.max(0) - scores.min(0)
    ranked = np.argsort(-gap, kind="stable")
    first = [int(i) for i in ranked[:differing] if gap[i] > 0]
    rest = np.setdiff1d(np.arange(len(images)), first)
    drawn = np.random.default_rng(0).permutation(rest)[: blind + differing - len(first)]
    return [
        *(ChosenImage(int(images[i]), "chosen because the variants differ most on it") for i in first),
        *(ChosenImage(int(images[i]), "drawn by lot") for i in np.sort(drawn).tolist()),
    ]


def right_minus_wrong(matches: StoredMatches) -> NDArray[np.int64]:
    """Right minus wrong detections in each image, (n,)."""
    shown = matches.score >= SHOWN_CONF
    right, neither = matches.matched[:, _HALF, _ANY], matches.ignored[:, _HALF, _ANY]
    value = np.where(right, 1, -1) * (shown & ~neither)
    return np.bincount(matches.image, weights=value, minlength=len(matches.images)).astype(np.int64)


def evenly_spaced(images: Sequence[int], most: int) -> list[int]:
    """At most `most` of the images, evenly over their order."""
    step = max(len(images) / most, 1.0)
    return [images[int(k * step)] for k in range(min(len(images), most))]
