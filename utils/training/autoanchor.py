"""How well anchors fit the boxes of a dataset, and better ones.

Letters: N boxes, A anchors in total, nl levels, na anchors per level; sizes are (width, height) in pixels of the training image.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.data.index import Index
from utils.errors import UserError
from utils.log import LOG

_MIN_RECALL = 0.98
"""Best possible recall above which the anchors are kept."""
_GENERATIONS = 1000

Sizes = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Fit:
    """How well anchors fit boxes.

    Attributes:
        recall: best possible recall, the share of boxes that match at least one anchor.
        per_box: mean number of matching anchors.
        quality: mean over boxes of the best ratio of sides (1 is a perfect anchor), 0 where no anchor matches.
    """

    recall: float
    per_box: float
    quality: float


def ratios(boxes: Sizes, anchors: Sizes) -> Sizes:
    """Smaller over larger side, the worse of the two sides: (N, 2), (A, 2) -> (N, A) in 0..1."""
    r = boxes[:, None] / anchors[None]
    return np.minimum(r, 1 / r).min(2)


def measure_fit(boxes: Sizes, anchors: Sizes, limit: float) -> Fit:
    """Measure `anchors` (A, 2) on `boxes` (N, 2), N >= 1; `limit` is anchor_t."""
    r = ratios(boxes, anchors)
    best, minimum = r.max(1), 1 / limit
    return Fit(float((best > minimum).mean()), float((r > minimum).sum(1).mean()), float((best * (best > minimum)).mean()))


def box_sizes(index: Index, imgsz: int, seed: int) -> Sizes:
    """Sizes (N, 2) of all boxes of the index when its images are scaled to `imgsz`, with a jitter of 10 %."""
    found = [(size, index.annotations_of(i)[:, 3:5]) for i, size in enumerate(index.sizes)]
    rng = np.random.default_rng([seed, imgsz])
    jitter = rng.uniform(0.9, 1.1, len(found))
    scaled = [wh * (size[::-1] / size.max() * imgsz * j) for (size, wh), j in zip(found, jitter, strict=True)]
    sizes = np.concatenate(scaled).astype(np.float64) if scaled else np.zeros((0, 2))
    return sizes[(sizes > 0).all(1)]


def kmeans(points: Sizes, k: int, rng: np.random.Generator, *, rounds: int = 30) -> Sizes:
    """Lloyd's algorithm with k-means++ seeding: (N, 2) -> (k, 2), N >= k."""
    centres = points[rng.integers(len(points))][None]
    while len(centres) < k:
        far = ((points[:, None] - centres[None]) ** 2).sum(2).min(1)
        total = far.sum()
        chosen = rng.choice(len(points), p=far / total) if total > 0 else rng.integers(len(points))
        centres = np.concatenate((centres, points[chosen][None]))
    for _ in range(rounds):
        nearest = ((points[:, None] - centres[None]) ** 2).sum(2).argmin(1)
        counts = np.bincount(nearest, minlength=k)
        sums = np.stack([np.bincount(nearest, points[:, d], minlength=k) for d in range(2)], 1)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return centres


def evolve(boxes: Sizes, anchors: Sizes, limit: float, rng: np.random.Generator) -> Sizes:
    """Improve `anchors` by random mutation, keeping each change that raises the quality."""
    best = measure_fit(boxes, anchors, limit).quality
    for _ in range(_GENERATIONS):
        change = np.ones(anchors.shape)
        while (change == 1).all():
            mutated = rng.random(anchors.shape) < 0.9
            change = np.clip(1 + mutated * rng.random() * rng.standard_normal(anchors.shape) * 0.1, 0.3, 3)
        candidate = np.maximum(anchors * change, 2.0)
        quality = measure_fit(boxes, candidate, limit).quality
        if quality > best:
            best, anchors = quality, candidate
    return anchors


def fit_anchors(boxes: Sizes, count: int, limit: float, seed: int) -> Sizes:
    """Fit `count` anchors to `boxes`, smallest area first.

    Raises:
        UserError: fewer boxes of at least 2 pixels than anchors.
    """
    usable = boxes[(boxes >= 2).any(1)]
    if len(usable) < count:
        raise UserError(
            f"{len(usable)} boxes of 2 pixels or more are too few to fit {count} anchors; annotate more, or set anchors in the model YAML"
        )
    rng = np.random.default_rng([seed, count])
    spread = np.where(usable.std(0) > 0, usable.std(0), 1.0)
    anchors = evolve(usable, np.maximum(kmeans(usable / spread, count, rng) * spread, 2.0), limit, rng)
    return anchors[np.argsort(anchors.prod(1), kind="stable")]


def check_anchors(index: Index, model: Any, imgsz: int, *, limit: float, seed: int, refit: bool = False) -> None:
    """Measure the model's anchors on the data, and replace them if their recall is poor.

    Args:
        index: the training images and annotations.
        model: its `head` has `anchors` (nl, na, 2) in cells, `stride` (nl,) and `set_anchors` (pixels).
        imgsz: training size in pixels.
        limit: hyper-parameter anchor_t.
        seed: makes the result reproducible.
        refit: fit anchors in any case, as the hyper-parameter `anchors` asks.
    """
    head = model.head
    pixels = (head.anchors * head.stride.to(head.anchors).view(-1, 1, 1)).double().cpu()
    old = pixels.view(-1, 2).numpy()
    boxes = box_sizes(index, imgsz, seed)
    if not len(boxes):
        return
    now = measure_fit(boxes, old, limit)
    LOG.info(f"AutoAnchor: {now.per_box:.2f} anchors/target, {now.recall:.3f} best possible recall (BPR)")
    if now.recall > _MIN_RECALL and not refit:
        return
    if len(boxes) < len(old) and not refit:
        LOG.info(f"AutoAnchor: {len(boxes)} boxes are too few to fit {len(old)} anchors, keeping the old ones")
        return
    new = fit_anchors(boxes, len(old), limit, seed)
    then = measure_fit(boxes, new, limit)
    if then.recall <= now.recall and not refit:
        LOG.info(f"AutoAnchor: fitted anchors reach {then.recall:.3f} and are no better, keeping the old ones")
        return
    finest_first = pixels.new_tensor(new).view(pixels.shape).float()
    head.set_anchors(finest_first[head.stride.argsort().argsort().cpu()])
    shown = "  ".join(f"{w:.0f}x{h:.0f}" for w, h in new)
    LOG.info(f"AutoAnchor: new anchors {shown}: {then.per_box:.2f} anchors/target, {then.recall:.3f} BPR")
