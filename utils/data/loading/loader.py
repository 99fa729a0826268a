"""Dataloaders: epochs of batches, bit-identical whatever the number of workers and ranks."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.config import Hyp
from utils.data.augment.user import UserTransform
from utils.data.index import Index
from utils.data.loading.dataset import BatchDataset, LoadedBatch, TrainSamples, ValSamples, validation_box
from utils.data.loading.image_store import ImageStore
from utils.data.loading.sampler import BatchPlan, EpochOrder, Size, in_order, shuffled, shuffled_rect
from utils.data.loading.shared_memory import SharedSlots, shared_memory
from utils.data.loading.workers import AHEAD, WorkerPool
from utils.device import cpu_count
from utils.images.letterbox import Letterbox
from utils.log import LOG


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """The input of a training or validation step.

    Attributes:
        images: (B, 3, H, W) uint8 RGB.
        targets: (n, 6) float32 image in the batch, class, cx, cy, w, h in 0..1.
        indices: of the images in the dataset; of a mosaic, the image it is counted as.
        paths: the files of these.
        letterboxes: where each source image lies in the batch; None where samples are augmented.
    """

    images: Tensor
    targets: Tensor
    indices: list[int]
    paths: list[str]
    letterboxes: list[Letterbox] | None = None


class Loader:
    """Batches of one rank, epoch after epoch, from workers that live until `close`.

    Attributes:
        faults: message by path of each image that could not be read so far; a grey image replaced it.
    """

    def __init__(
        self,
        index: Index,
        samples: TrainSamples | ValSamples,
        order: Callable[[int, NDArray[np.float64] | None], EpochOrder],
        *,
        workers: int,
        rank: int = 0,
        world: int = 1,
        letterbox: Callable[[int, Size], Letterbox] | None = None,
    ) -> None:
        self.faults: dict[str, str] = {}
        self._pin = torch.cuda.is_available()
        self._index, self._order, self._rank, self._world, self._letterbox = index, order, rank, world, letterbox
        self._weights: NDArray[np.float64] | None = None
        first = order(0, None)
        self._length = len(first.bounds)
        self._slots = SharedSlots(workers * AHEAD + 2, 3 * first.max_pixels(world), shared=workers > 0)
        self._dataset: BatchDataset | None = BatchDataset(samples, self._slots, index)
        self._pool = WorkerPool(self._dataset, workers) if workers else None
        self._pending: collections.deque[BatchPlan] = collections.deque()

    def __len__(self) -> int:
        return self._length

    def weigh(self, weights: NDArray[np.float64]) -> None:
        """Sample the images of later epochs with replacement, in proportion to (n,) weights."""
        self._weights = weights

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `start` on."""
        dataset = self._dataset
        assert dataset is not None, "the loader is closed"
        order = self._order(epoch, self._weights).plans(epoch, start=start, rank=self._rank, world=self._world)
        plans = (dataclasses.replace(plan, slot=self._slots.take()) for plan in order)
        for plan, loaded in self._load_ahead(plans, self._pool) if self._pool else ((plan, dataset[plan]) for plan in plans):
            for i, message in loaded.faults:
                path = str(self._index.paths[i])
                if path not in self.faults:
                    self.faults[path] = message
                    LOG.warning("%s; a grey image without objects replaces it", message)
            yield from self._batches(plan, loaded)

    def close(self) -> None:
        """End the workers; the loader cannot be used any more."""
        self._dataset = None
        if self._pool:
            self._pool.close()

    def _load_ahead(self, plans: Iterator[BatchPlan], pool: WorkerPool) -> Iterator[tuple[BatchPlan, LoadedBatch]]:
        while self._pending:  # of an epoch that was left early; a slot is free once no worker writes into it
            pool.take()
            self._slots.give_back(self._pending.popleft().slot)
        while True:
            for plan in itertools.islice(plans, pool.room):
                self._pending.append(plan)
                pool.give(plan)
            if not self._pending:
                return
            loaded = pool.take()
            yield self._pending.popleft(), loaded

    def _batches(self, plan: BatchPlan, loaded: LoadedBatch) -> Iterator[Batch]:
        targets, first = torch.from_numpy(loaded.targets), 0
        shape = len(plan.samples), 3, *plan.shape
        images = self._slots.view(plan.slot, shape) if loaded.images is None else torch.from_numpy(loaded.images)
        for size in plan.batches:
            last = first + size
            own = targets[(targets[:, 0] >= first) & (targets[:, 0] < last)]
            own[:, 0] -= first
            indices = [sample.index for sample in plan.samples[first:last]]
            letterboxes = [self._letterbox(i, plan.shape) for i in indices] if self._letterbox else None
            part = images[first:last].pin_memory() if self._pin else images[first:last]
            yield Batch(part, own, indices, [str(self._index.paths[i]) for i in indices], letterboxes)
            first = last


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
    mosaic_epochs: float = math.inf,
    cache: str = "",
    stride: int = 32,
    transform: UserTransform | None = None,
) -> Loader:
    """Load augmented samples in random order.

    Args:
        imgsz: side of the images in pixels.
        batch_size: of this rank; a global batch is `world_size` times as large, with the same content for any number of ranks.
        workers: maximum number of processes; 0 loads in this one.
        rect: batches of similar aspect ratio without mosaics.
        mosaic_epochs: the first epochs, which have mosaics unless `rect`.
        transform: a user's own, after the other augmentations.
        cache: "ram", "disk" or "": small datasets are kept in memory anyway.
    """
    batch = batch_size * world_size
    store = ImageStore(index.paths, index.sizes, imgsz, exact=False, cache=cache or "auto")

    def order(epoch: int, weights: NDArray[np.float64] | None) -> EpochOrder:
        if rect:
            return shuffled_rect(index.sizes, batch, imgsz, stride, seed, epoch)
        return shuffled(len(index), batch, imgsz, seed, epoch, weights)

    return Loader(
        index,
        TrainSamples(index, store, hyp, seed, 0 if rect else mosaic_epochs, transform=transform),
        order,
        workers=_workers(workers, batch_size, imgsz, world_size),
        rank=rank,
        world=world_size,
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
        rect: sort by aspect ratio and shape each batch to fit.
        pad: additional strides of a rect batch.
        cache: "ram", "disk" or "".
    """
    order = in_order(index.sizes, batch_size, imgsz, stride, pad, rect=rect)
    own = dataclasses.replace(order, bounds=order.bounds[rank::world_size], shapes=order.shapes[rank::world_size])
    store = ImageStore(index.paths, index.sizes, imgsz, exact=True, recent=0, cache=cache)
    return Loader(
        index,
        ValSamples(index, store, imgsz),
        lambda _epoch, _weights: own,
        workers=_workers(workers, batch_size, imgsz, world_size),
        letterbox=lambda i, shape: validation_box(index, i, imgsz, shape),
    )


def _workers(limit: int, batch_size: int, imgsz: int, world_size: int) -> int:
    """Bound the number of workers by cores, batch size and the free shared memory for the batches they load ahead."""
    room = shared_memory() // (max(batch_size, 32) * 3 * imgsz**2 * (AHEAD + 1) * world_size)
    count = max(min(limit, cpu_count(), batch_size), 0)
    if room < count:
        LOG.warning("shared memory has room for %d loader process(es) only (docker: --shm-size)", room)
    return min(count, int(room))
