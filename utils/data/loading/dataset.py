"""From a piece of work to tensors: what a loader worker does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from utils.config import Hyp
from utils.data.augment.augment import compose, draw_sample
from utils.data.augment.colour import split_rgb
from utils.data.index import Index
from utils.data.loading.image_store import Image, ImageStore, kept_size
from utils.data.loading.sampler import Sample, Size, Work, generator
from utils.data.loading.shared_memory import Slots
from utils.images.letterbox import GREY, Letterbox, apply, fit
from utils.images.reading import ImageError

Fault = tuple[int, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What came of a piece of work.

    Attributes:
        images: (n, 3, H, W) uint8 RGB; None where the work named a slot, which holds them.
        labels: (m, 6) float32 image among the n, class, cx, cy, w, h in 0..1.
        faults: images of the data set that could not be read, and why.
    """

    images: NDArray[np.uint8] | None
    labels: NDArray[np.float32]
    faults: tuple[Fault, ...]


class Loading(Protocol):
    """A way to make one sample."""

    def load(self, sample: Sample, epoch: int, out: NDArray[np.uint8], faults: list[Fault], /) -> NDArray[np.float32]:
        """Write (3, H, W) RGB into `out` and return (k, 5) class and normalised cxcywh; add unreadable images to `faults`."""
        ...


class Parts:
    """A collection whose items are pieces of work, done when they are asked for."""

    def __init__(self, loading: Loading, slots: Slots, index: Index) -> None:
        self.loading, self.slots, self.index = loading, slots, index

    def path(self, i: int) -> Path:
        """Return the file of image i."""
        return self.index.paths[i]

    def __getitem__(self, work: Work) -> Part:
        shape = (len(work.samples), 3, *work.shape)
        images = np.empty(shape, np.uint8) if work.slot < 0 else None
        array = self.slots.array(work.slot, shape) if images is None else images
        labels, faults = [np.zeros((0, 6), np.float32)], list[Fault]()
        for position, sample in enumerate(work.samples):
            rows = self.loading.load(sample, work.epoch, array[position], faults)
            labels.append(np.concatenate((np.full((len(rows), 1), position), rows), 1, dtype=np.float32))
        return Part(images, np.concatenate(labels), tuple(faults))


@dataclasses.dataclass(frozen=True, slots=True)
class Training:
    """Augmented samples: each a function of (seed, epoch, index) and of how often the index came before."""

    index: Index
    store: ImageStore
    hyp: Hyp
    seed: int
    mosaic: bool

    def load(self, sample: Sample, epoch: int, out: NDArray[np.uint8], faults: list[Fault]) -> NDArray[np.float32]:
        """See `Loading`."""
        rng = generator(self.seed, epoch, sample.index, sample.occurrence)
        size = out.shape[1], out.shape[2]
        draw = draw_sample(rng, self.hyp, sample.index, sample.pool, size, lambda i: len(self.index.labels(i)), mosaic=self.mosaic)
        return compose(draw, self.index, lambda i: _read(self.store, i, faults), out)


@dataclasses.dataclass(frozen=True, slots=True)
class Validation:
    """Letterboxed samples, the same in every epoch."""

    index: Index
    store: ImageStore
    imgsz: int

    def load(self, sample: Sample, _epoch: int, out: NDArray[np.uint8], faults: list[Fault]) -> NDArray[np.float32]:
        """See `Loading`."""
        image = _read(self.store, sample.index, faults)
        if image is None:
            out.fill(GREY)
            return np.zeros((0, 5), np.float32)
        box = validation_box(self.index, sample.index, self.imgsz, (out.shape[1], out.shape[2]))
        labels = self.index.labels(sample.index)
        scale = np.array([box.size[1], box.size[0]] * 2, np.float32)
        shift = np.array([box.left, box.top, 0, 0], np.float32)
        labels[:, 1:] = (labels[:, 1:] * scale + shift) / np.array([box.shape[1], box.shape[0]] * 2, np.float32)
        split_rgb(apply(image, box), out)
        return labels


def validation_box(index: Index, i: int, imgsz: int, shape: Size) -> Letterbox:
    """Return where image i lies in a (height, width) batch: brought to a longest side of `imgsz`, then never enlarged."""
    source = int(index.sizes[i][0]), int(index.sizes[i][1])
    return fit(source, shape, size=kept_size(source, imgsz, enlarge=True), enlarge=False)


def _read(store: ImageStore, i: int, faults: list[Fault]) -> Image | None:
    try:
        return store(i)
    except ImageError as error:
        faults.append((i, str(error)))
        return None
