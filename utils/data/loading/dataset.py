"""The dataset of a loader worker: from the plan of a batch to its arrays."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.config import Hyp
from utils.data.augment.augment import compose, draw_sample
from utils.data.augment.colour import split_rgb
from utils.data.augment.user import UserTransform
from utils.data.index import Index
from utils.data.loading.image_store import Image, ImageStore, kept_size
from utils.data.loading.sampler import BatchPlan, Sample, Size, generator
from utils.data.loading.shared_memory import SharedSlots
from utils.images.letterbox import GREY, Letterbox, apply, fit
from utils.images.reading import ImageError

Fault = tuple[int, str]


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedBatch:
    """The arrays of a `BatchPlan`.

    Attributes:
        images: (n, 3, H, W) uint8 RGB; None where the plan names a slot, which holds them.
        targets: (m, 6) float32 image among the n, class, cx, cy, w, h in 0..1.
        faults: images of the dataset that could not be read, and why.
    """

    images: NDArray[np.uint8] | None
    targets: NDArray[np.float32]
    faults: tuple[Fault, ...]


class BatchDataset:
    """Loads the samples of a `BatchPlan`.

    Args:
        samples: makes each sample.
        slots: shared memory that plans may name.
    """

    def __init__(self, samples: TrainSamples | ValSamples, slots: SharedSlots, index: Index) -> None:
        self.samples, self.slots, self.index = samples, slots, index

    def path(self, i: int) -> Path:
        """Return the file of image i."""
        return self.index.paths[i]

    def __getitem__(self, plan: BatchPlan) -> LoadedBatch:
        shape = (len(plan.samples), 3, *plan.shape)
        images = np.empty(shape, np.uint8) if plan.slot < 0 else None
        array = self.slots.array(plan.slot, shape) if images is None else images
        targets, faults = [np.zeros((0, 6), np.float32)], list[Fault]()
        for position, sample in enumerate(plan.samples):
            found = self.samples.load(sample, plan.epoch, array[position], faults)
            targets.append(np.concatenate((np.full((len(found), 1), position), found), 1, dtype=np.float32))
        return LoadedBatch(images, np.concatenate(targets), tuple(faults))


@dataclasses.dataclass(frozen=True, slots=True)
class TrainSamples:
    """Augmented samples: each a function of (seed, epoch, index) and of how often the index came before."""

    index: Index
    store: ImageStore
    hyp: Hyp
    seed: int
    mosaic_epochs: float
    transform: UserTransform | None = None

    def load(self, sample: Sample, epoch: int, out: NDArray[np.uint8], faults: list[Fault]) -> NDArray[np.float32]:
        """Write (3, H, W) RGB into `out` and return (k, 5) class and normalised cxcywh; add unreadable images to `faults`."""
        rng = generator(self.seed, epoch, sample.index, sample.occurrence)
        size = out.shape[1], out.shape[2]
        mosaic = epoch < self.mosaic_epochs
        draw = draw_sample(rng, self.hyp, sample.index, sample.pool, size, lambda i: len(self.index.annotations_of(i)), mosaic=mosaic)
        annotations = compose(draw, self.index, lambda i: _read(self.store, i, faults), out)
        return annotations if self.transform is None else _transformed(self.transform, annotations, out, rng)


@dataclasses.dataclass(frozen=True, slots=True)
class ValSamples:
    """Letterboxed samples, the same in every epoch."""

    index: Index
    store: ImageStore
    imgsz: int

    def load(self, sample: Sample, _epoch: int, out: NDArray[np.uint8], faults: list[Fault]) -> NDArray[np.float32]:
        """See `TrainSamples.load`."""
        image = _read(self.store, sample.index, faults)
        if image is None:
            out.fill(GREY)
            return np.zeros((0, 5), np.float32)
        box = validation_box(self.index, sample.index, self.imgsz, (out.shape[1], out.shape[2]))
        annotations = self.index.annotations_of(sample.index)
        scale = np.array([box.size[1], box.size[0]] * 2, np.float32)
        shift = np.array([box.left, box.top, 0, 0], np.float32)
        annotations[:, 1:] = (annotations[:, 1:] * scale + shift) / np.array([box.shape[1], box.shape[0]] * 2, np.float32)
        split_rgb(apply(image, box), out)
        return annotations


def validation_box(index: Index, i: int, imgsz: int, shape: Size) -> Letterbox:
    """Return the letterbox of image i in a (height, width) batch: resized to a longest side of `imgsz`, then never enlarged."""
    source = int(index.sizes[i][0]), int(index.sizes[i][1])
    return fit(source, shape, size=kept_size(source, imgsz, enlarge=True), enlarge=False)


def _transformed(
    transform: UserTransform, annotations: NDArray[np.float32], out: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Apply a user's transform to (n, 5) class, normalised cxcywh and, in place, to (3, H, W) RGB."""
    scale = np.array([out.shape[2], out.shape[1]], np.float32)
    centre, half = annotations[:, 1:3] * scale, annotations[:, 3:5] * scale / 2
    before = np.concatenate((centre - half, centre + half), 1, dtype=np.float32)
    image, boxes, classes = transform(np.ascontiguousarray(out.transpose(1, 2, 0)), before, annotations[:, 0].astype(np.int64), rng)
    out[:] = image.transpose(2, 0, 1)
    low, high = boxes[:, :2] / scale, boxes[:, 2:] / scale
    return np.concatenate((classes[:, None], (low + high) / 2, high - low), 1, dtype=np.float32)


def _read(store: ImageStore, i: int, faults: list[Fault]) -> Image | None:
    try:
        return store(i)
    except ImageError as error:
        faults.append((i, str(error)))
        return None
