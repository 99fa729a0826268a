"""Choosing the images shown in a report: those on which the variants differ most, and some at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.compare.match_store import StoredMatches

SHOWN_CONF = 0.25
"""Detections below this confidence are neither drawn nor counted."""
_IOU_50, _ALL_AREAS = 0, 0  # indices into the IoU thresholds and areas of the matches


class ChosenImage(NamedTuple):
    """An image to show: its index in the dataset, and why it was chosen."""

    image: int
    why: str


def choose(matches: Sequence[StoredMatches], *, differing: int = 4, at_random: int = 2) -> list[ChosenImage]:
    """Choose images; equal matches give equal images.

    Args:
        matches: of the variants, on the same images.
        differing: number of images on which true minus false positives at IoU 0.5 differ most between the variants.
        at_random: number of other images, chosen with a fixed seed.
    """
    images = matches[0].images
    scores = np.stack([true_minus_false(m) for m in matches if m.same_ground_truth(matches[0])])
    gap = scores.max(0) - scores.min(0)
    ranked = np.argsort(-gap, kind="stable")
    first = [int(i) for i in ranked[:differing] if gap[i] > 0]
    rest = np.setdiff1d(np.arange(len(images)), first)
    drawn = np.random.default_rng(0).permutation(rest)[: at_random + differing - len(first)]
    return [
        *(ChosenImage(int(images[i]), "chosen because the variants differ most on it") for i in first),
        *(ChosenImage(int(images[i]), "chosen at random") for i in np.sort(drawn).tolist()),
    ]


def true_minus_false(matches: StoredMatches) -> NDArray[np.int64]:
    """True minus false positives in each image, (n,)."""
    shown = matches.score >= SHOWN_CONF
    right, neither = matches.matched[:, _IOU_50, _ALL_AREAS], matches.ignored[:, _IOU_50, _ALL_AREAS]
    value = np.where(right, 1, -1) * (shown & ~neither)
    return np.bincount(matches.image, weights=value, minlength=len(matches.images)).astype(np.int64)


def evenly_spaced(images: Sequence[int], maximum: int) -> list[int]:
    """At most `maximum` of the images, evenly spaced in their order."""
    step = max(len(images) / maximum, 1.0)
    return [images[int(k * step)] for k in range(min(len(images), maximum))]
