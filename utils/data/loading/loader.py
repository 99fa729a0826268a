"""Loaders: epochs of batches, the same to the bit whatever the number of workers and ranks."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.config import Hyp
from utils.data.index import Index
from utils.data.loading.dataset import Loading, Part, Parts, Training, Validation, validation_box
from utils.data.loading.image_store import ImageStore
from utils.data.loading.sampler import EpochOrder, Size, Work, in_order, shuffled, shuffled_rect
from utils.data.loading.shared_memory import Slots, shared_memory
from utils.data.loading.workers import AHEAD, Crew
from utils.images.letterbox import Letterbox
from utils.log import LOG


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What a training or validation step takes.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        targets: (n, 6) float32 image in the batch, class, cx, cy, w, h in 0..1.
        indices: of the images in the data set; of a mosaic, the image it is counted as.
        paths: the files of these.
        boxes: the way from the batch back to each source image; None where samples are augmented.
    """

    images: Tensor
    targets: Tensor
    indices: list[int]
    paths: list[str]
    boxes: list[Letterbox] | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on a device."""
        images, targets = self.images.to(device, non_blocking=True), self.targets.to(device, non_blocking=True)
        return dataclasses.replace(self, images=images, targets=targets)


class Loader:
    """Batches of one rank, epoch after epoch, from workers that live until `close`.

    Attributes:
        faults: message by path of each image that could not be read so far; a sample without it took its place.
    """

    def __init__(
        self,
        index: Index,
        loading: Loading,
        order: Callable[[int, NDArray[np.float64] | None], EpochOrder],
        *,
        workers: int,
        world: int,
        share: Callable[[EpochOrder, int, int], Iterator[Work]],
        weights: NDArray[np.float64] | None = None,
        boxes: Callable[[int, Size], Letterbox] | None = None,
    ) -> None:
        self.faults: dict[str, str] = {}
        self._pin = torch.cuda.is_available()
        self._index, self._order, self._share, self._weights, self._boxes = index, order, share, weights, boxes
        first = order(0, weights)
        self._length = len(first.bounds)
        self._slots = Slots(workers * AHEAD + 2, 3 * first.most_pixels(world), shared=workers > 0)
        self._parts: Parts | None = Parts(loading, self._slots, index)
        self._crew = Crew(self._parts, workers) if workers else None
        self._under_way: collections.deque[Work] = collections.deque()

    def __len__(self) -> int:
        return self._length

    def weigh(self, weights: NDArray[np.float64]) -> None:
        """Draw the images of later epochs with replacement, in proportion to (n,) weights."""
        self._weights = weights

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `start` on."""
        assert self._parts is not None, "the loader is closed"
        works = self._share(self._order(epoch, self._weights), epoch, start)
        for work, part in self._loaded(works, self._parts) if self._crew is None else self._loaded_ahead(works, self._crew):
            self._note(part)
            yield from self._batches(work, part)

    def close(self) -> None:
        """End the workers; the loader cannot be used any more."""
        self._parts = None
        if self._crew:
            self._crew.close()

    def _loaded(self, works: Iterator[Work], parts: Parts) -> Iterator[tuple[Work, Part]]:
        for work in works:
            mine = dataclasses.replace(work, slot=self._slots.take())
            yield mine, parts[mine]

    def _loaded_ahead(self, works: Iterator[Work], crew: Crew) -> Iterator[tuple[Work, Part]]:
        while self._under_way:  # of an epoch that was left early; a slot is free once nobody writes into it any more
            crew.take()
            self._slots.give_back(self._under_way.popleft().slot)
        while True:
            for work in itertools.islice(works, crew.room):
                self._under_way.append(dataclasses.replace(work, slot=self._slots.take()))
                crew.give(self._under_way[-1])
            if not self._under_way:
                return
            part = crew.take()
            yield self._under_way.popleft(), part

    def _batches(self, work: Work, part: Part) -> Iterator[Batch]:
        labels, first = torch.from_numpy(part.labels), 0
        shape = len(work.samples), 3, *work.shape
        images = self._slots.view(work.slot, shape) if part.images is None else torch.from_numpy(part.images)
        for size in work.batches:
            last = first + size
            rows = labels[(labels[:, 0] >= first) & (labels[:, 0] < last)]
            rows[:, 0] -= first
            indices = [sample.index for sample in work.samples[first:last]]
            boxes = [self._boxes(i, work.shape) for i in indices] if self._boxes else None
            piece = images[first:last].pin_memory() if self._pin else images[first:last]
            yield Batch(piece, rows, indices, [str(self._index.paths[i]) for i in indices], boxes)
            first = last

    def _note(self, part: Part) -> None:
        for i, message in part.faults:
            path = str(self._index.paths[i])
            if path not in self.faults:
                self.faults[path] = message
                LOG.warning("%s; a grey image without objects takes its place", message)


def train_loader(  # noqa: PLR0913
    index: Index,
    *,
    imgsz: int,
    batch_size: int,
    hyp: Hyp,
    seed: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    rect: bool = False,
    cache: str = "",
    stride: int = 32,
    image_weights: NDArray[np.float64] | None = None,
) -> Loader:
    """Load augmented samples in random order.

    Args:
        imgsz: side of the images in pixels.
        batch_size: images a batch of this rank; a global batch has `world_size` times as many and the same content for any split.
        workers: most processes; 0 loads in this one.
        rect: batches of like aspect without mosaics.
        cache: "ram", "disk" or "": small data sets are kept in memory anyway.
        image_weights: (n,) weights to draw images with replacement by; see also `Loader.weigh`.
    """
    batch = batch_size * world_size
    store = ImageStore(index.paths, index.sizes, imgsz, exact=False, cache=cache or "auto")

    def order(epoch: int, weights: NDArray[np.float64] | None) -> EpochOrder:
        if rect:
            return shuffled_rect(index.sizes, batch, imgsz, stride, seed, epoch)
        return shuffled(len(index), batch, imgsz, seed, epoch, weights)

    return Loader(
        index,
        Training(index, store, hyp, seed, mosaic=not rect),
        order,
        workers=_workers(workers, batch_size, imgsz, world_size),
        world=world_size,
        share=lambda plan, epoch, start: plan.work(epoch, start=start, rank=rank, world=world_size),
        weights=image_weights,
    )


def val_loader(
    index: Index,
    *,
    imgsz: int,
    batch_size: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    rect: bool = True,
    pad: float = 0.5,
    stride: int = 32,
    cache: str = "",
) -> Loader:
    """Load letterboxed images, each once; ranks take every `world_size`-th batch.

    Args:
        imgsz: longest side of the images in pixels; smaller ones grow to it.
        rect: sort by aspect and shape each batch to fit.
        pad: strides that a rect batch is larger than needed.
        cache: "ram", "disk" or "".
    """
    plan = in_order(index.sizes, batch_size, imgsz, stride, pad, rect=rect)
    mine = dataclasses.replace(plan, bounds=plan.bounds[rank::world_size], shapes=plan.shapes[rank::world_size])
    store = ImageStore(index.paths, index.sizes, imgsz, exact=True, recent=0, cache=cache)
    return Loader(
        index,
        Validation(index, store, imgsz),
        lambda _epoch, _weights: mine,
        workers=_workers(workers, batch_size, imgsz, world_size),
        world=1,
        share=lambda order, epoch, start: order.work(epoch, start=start),
        boxes=lambda i, shape: validation_box(index, i, imgsz, shape),
    )


def _workers(most: int, batch_size: int, imgsz: int, world_size: int) -> int:
    """Bound the loader processes by processors, batch size and room in shared memory for what they have under way."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = shared_memory() // (max(batch_size, 32) * 3 * imgsz**2 * (AHEAD + 1) * world_size)
    count = max(min(most, cpus, batch_size), 0)
    if room < count:
        LOG.warning("shared memory has room for %d loader process(es) only (docker: --shm-size)", room)
    return min(count, int(room))
