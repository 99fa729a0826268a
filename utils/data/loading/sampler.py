"""The sampler: which images make which batch, as a function of seed and epoch, whatever the number of ranks or workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from utils.data.index import Index
from utils.geometry import ceil_to_stride

Size = tuple[int, int]
Ints = NDArray[np.int64]

CHUNK = 32
"""Consecutive images of an epoch's order that share mosaics, so that each is decoded once for four of them."""

_MAX_PIXELS = CHUNK * 1024**2
"""Of a plan of more than one batch."""


def generator(*key: int) -> np.random.Generator:
    """Return an independent random stream for each key of non-negative numbers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One sample to load.

    Attributes:
        index: of the image in the dataset.
        occurrence: how often the image came before in the epoch; 0 unless images are drawn with replacement.
        pool: images that its mosaic may be made of.
    """

    index: int
    occurrence: int = 0
    pool: Sequence[int] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class BatchPlan:
    """Consecutive batches of one (height, width) shape, loaded by one worker at once.

    Attributes:
        batches: number of images of each batch.
        slot: shared memory that the images go to; -1 without.
    """

    epoch: int
    shape: Size
    samples: tuple[Sample, ...]
    batches: tuple[int, ...]
    slot: int = -1


@dataclasses.dataclass(frozen=True, slots=True)
class EpochOrder:
    """The order of an epoch, cut into global batches.

    Attributes:
        order: (n,) images of the dataset.
        bounds: (b, 2) first and last + 1 position of each batch in the order.
        shapes: (height, width) of each batch.
        pooled: whether samples have a pool for mosaics.
    """

    order: Ints
    bounds: Ints
    shapes: Sequence[Size]
    pooled: bool

    def max_pixels(self, world: int = 1) -> int:
        """Return the pixels of a rank's largest plan."""
        each = -(-(self.bounds[:, 1] - self.bounds[:, 0]) // world)
        return max((h * w * n for (h, w), n in zip(self.shapes, each.tolist(), strict=True)), default=0) * self._group()

    def _group(self) -> int:
        """Return the number of batches of a plan: those of a chunk, within `_MAX_PIXELS`."""
        if not self.pooled or not len(self.bounds):
            return 1
        size, pixels = int(self.bounds[0, 1] - self.bounds[0, 0]), self.shapes[0][0] * self.shapes[0][1]
        return max(min(CHUNK // size, _MAX_PIXELS // (size * pixels)), 1)

    def plans(self, epoch: int, *, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[BatchPlan]:
        """Yield a rank's plans from batch `start` on.

        Every rank gets equally many samples; a batch that is not divisible is filled up from its own beginning.
        """
        occurrence = occurrences(self.order)
        group, first = self._group(), start
        while first < len(self.bounds):
            last = min((first // group + 1) * group, len(self.bounds))
            shares = [self._share(k, rank, world) for k in range(first, last)]
            pools = {c: self._pool(c) for c in {int(p) // CHUNK for share in shares for p in share}} if self.pooled else {}
            samples = tuple(
                Sample(int(self.order[p]), int(occurrence[p]), pools.get(int(p) // CHUNK, ())) for share in shares for p in share
            )
            yield BatchPlan(epoch, self.shapes[first], samples, tuple(len(share) for share in shares))
            first = last

    def _share(self, batch: int, rank: int, world: int) -> Ints:
        first, last = self.bounds[batch]
        each = -(-(last - first) // world)
        return first + np.arange(rank * each, (rank + 1) * each) % (last - first)

    def _pool(self, chunk: int) -> tuple[int, ...]:
        first = min(chunk * CHUNK, max(len(self.order) - CHUNK, 0))  # the last one is as large as the others
        return tuple(int(i) for i in self.order[first : first + CHUNK])


def occurrences(order: Ints) -> Ints:
    """Return for each entry the number of equal ones before it."""
    by_value = np.argsort(order, kind="stable")
    values = order[by_value]
    first = np.searchsorted(values, values)
    out = np.empty(len(order), np.int64)
    out[by_value] = np.arange(len(order)) - first
    return out


def shuffled(count: int, batch: int, imgsz: int, seed: int, epoch: int, weights: NDArray[np.float64] | None = None) -> EpochOrder:
    """Order an epoch of square batches at random; with `weights`, images are drawn with replacement in proportion to them.

    Args:
        batch: global batch size, that is, of all ranks.
    """
    rng = generator(seed, epoch)
    order = rng.permutation(count) if weights is None else rng.choice(count, count, p=weights / weights.sum())
    bounds = _bounds(count, batch)
    return EpochOrder(order.astype(np.int64), bounds, [(imgsz, imgsz)] * len(bounds), pooled=True)


def shuffled_rect(sizes: NDArray[np.int32], batch: int, imgsz: int, stride: int, seed: int, epoch: int) -> EpochOrder:
    """Batch images of similar aspect ratio in a shape that fits them; equal ones and the batches are shuffled."""
    rng = generator(seed, epoch)
    order = np.lexsort((rng.random(len(sizes)), sizes[:, 0] / sizes[:, 1]))
    bounds = _bounds(len(sizes), batch)
    bounds = bounds[rng.permutation(len(bounds))]
    return EpochOrder(order, bounds, [rect_shape(sizes[order[a:b]], imgsz, stride) for a, b in bounds], pooled=False)


def in_order(sizes: NDArray[np.int32], batch: int, imgsz: int, stride: int, pad: float, *, rect: bool) -> EpochOrder:
    """Order a validation: sorted by aspect ratio in batches of a fitting shape, or in dataset order in squares."""
    bounds = _bounds(len(sizes), batch)
    if not rect:
        side = ceil_to_stride(imgsz, stride)
        return EpochOrder(np.arange(len(sizes)), bounds, [(side, side)] * len(bounds), pooled=False)
    # NumPy's default sort, as in YOLOv5: among images of one aspect ratio it decides which share a batch with larger ones and get
    # more padding, which changes AP by up to 0.002.
    order = np.argsort(sizes[:, 0] / sizes[:, 1])
    return EpochOrder(order, bounds, [rect_shape(sizes[order[a:b]], imgsz, stride, pad) for a, b in bounds], pooled=False)


def rect_shape(sizes: NDArray[np.int32], imgsz: int, stride: int, pad: float = 0.0) -> Size:
    """Return the minimum (height, width) in multiples of `stride` for images scaled to a longest side of `imgsz`, plus `pad` strides."""
    aspect = sizes[:, 0] / sizes[:, 1]
    height, width = min(float(aspect.max()), 1.0), min(1 / float(aspect.min()), 1.0)
    return ceil_to_stride(height * imgsz, stride, pad), ceil_to_stride(width * imgsz, stride, pad)


def _bounds(count: int, batch: int) -> Ints:
    first = np.arange(0, count, batch)
    return np.stack((first, np.minimum(first + batch, count)), 1)


def class_counts(index: Index) -> NDArray[np.int64]:
    """Return the number of boxes of each class in each image, (images, classes)."""
    counts = np.zeros((len(index), index.nc), np.int64)
    owner = np.repeat(np.arange(len(index)), np.diff(index.starts))
    np.add.at(counts, (owner[~index.crowds], index.annotations[~index.crowds, 0].astype(np.int64)), 1)
    return counts


def image_weights(counts: NDArray[np.int64], ap: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the sampling weight of each image: rare classes and classes of low AP weigh more.

    Args:
        counts: (images, classes) boxes, see `class_counts`.
        ap: (classes,) AP of the last validation, 0 for all when None.
    """
    total = counts.sum(0)
    rarity = 1 / np.maximum(total, 1)
    gap = np.ones(counts.shape[1]) if ap is None else (1 - np.asarray(ap, np.float64)) ** 2
    weights = (counts * (rarity / rarity.sum() * gap)).sum(1)
    return weights if weights.sum() > 0 else np.ones(len(counts))
