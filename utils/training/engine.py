"""The training loop of one epoch."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from utils.distributed import SINGLE, Ranks, sum_over_ranks
from utils.images.tensors import as_values
from utils.training.amp import Precision
from utils.training.buffer_snapshot import Buffers
from utils.training.ema import ModelEMA
from utils.training.events import Events
from utils.training.freeze import train_mode
from utils.training.losses.loss import DetectionLoss
from utils.training.nonfinite import Guard, Verdict, Waiting
from utils.training.optim import Schedule, apply_setting
from utils.training.out_of_memory import Fitting, backward, backward_together

if TYPE_CHECKING:
    from utils.data.loading.loader import Batch, Loader

CLIP = 10.0
"""Largest norm of the gradient of all parameters together."""
TERMS = ("box", "obj", "cls")

Report = Callable[[int, "dict[str, float]", "Batch", int], None]
"""Called after a batch with its number, the mean terms so far, the batch, the side in pixels it was trained at."""


Stepped = Callable[[int, Tensor], None]
"""Called after an optimizer step with the number of the next batch and this rank's sums of the loss terms so far.

No gradient waits then: with weights, optimizer and average, that is all it takes to go on from there.
"""


class Position(NamedTuple):
    """Where an epoch stands.

    Attributes:
        batch: the next one to do; as many as there are when only the validation is left.
        sums: of the loss terms of the batches before, on this rank.
    """

    batch: int = 0
    sums: tuple[float, ...] = (0.0,) * len(TERMS)


START = Position()


@dataclasses.dataclass(slots=True, kw_only=True)
class Trainee:
    """Everything a training step reads and changes."""

    model: nn.Module
    """The detector itself."""
    layers: Sequence[nn.Module]
    """Its rows."""
    parallel: nn.Module
    """The detector as it is called: wrapped for several ranks, compiled, or itself."""
    criterion: DetectionLoss
    optimizer: Optimizer
    schedule: Schedule
    ema: ModelEMA
    precision: Precision
    scaler: torch.amp.GradScaler
    seed: int
    imgsz: int
    stride: int
    frozen: frozenset[int] = frozenset()
    multi_scale: bool = False
    ranks: Ranks = SINGLE
    guard: Guard = dataclasses.field(default_factory=Guard)
    fitting: Fitting = dataclasses.field(default_factory=Fitting)
    events: Events = dataclasses.field(default_factory=Events)
    window: Buffers = dataclasses.field(init=False)
    """The model's buffers before the first batch whose gradients wait."""
    before: Buffers = dataclasses.field(init=False)
    """The model's buffers before the batch."""

    def __post_init__(self) -> None:
        self.window, self.before = Buffers(self.model), Buffers(self.model)

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer changes."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def train_one_epoch(
    trainee: Trainee, loader: Loader, epoch: int, report: Report, position: Position = START, stepped: Stepped | None = None
) -> dict[str, float]:
    """Train for one epoch and return the mean loss terms over its batches and all ranks.

    Gradients still waiting at the epoch's end are stepped then, so that nothing but weights and optimizer state carries over.

    Args:
        trainee: what is trained.
        loader: the batches of this rank.
        epoch: its number.
        report: told of each batch, or of every tenth where telling waits for a GPU.
        position: where to begin: after an optimizer step, or at the start.
        stepped: told of each optimizer step; what it raises ends the epoch there.

    Raises:
        UserError: losses, gradients or weights are not finite and skipping steps does not help, or a batch does not fit into memory.
    """
    train_mode(trainee.model, trainee.layers, trainee.frozen)
    steps, waiting = len(loader), Waiting(epoch)
    sums = torch.tensor(position.sums, dtype=torch.float32, device=trainee.precision.device)
    often = 10 if sums.is_cuda else 1  # showing the terms waits for the GPU
    for number, batch in enumerate(loader.epoch(epoch, position.batch), position.batch):
        torch.manual_seed(_draw(trainee.seed, epoch, number, trainee.ranks.rank))  # dropout is a function of the batch, resumed or not
        setting = trainee.schedule.at(epoch * steps + number, epoch)
        apply_setting(trainee.optimizer, setting)
        images = prepare(batch.images, trainee, epoch, number)
        due = len(waiting) + 1 >= setting.accumulate or number + 1 == steps
        terms = _backward(trainee, images, batch, number, waiting, due=due)
        sums += _finite(torch.stack([terms[t] for t in TERMS]), sums / max(number, 1))
        if due:
            _step(trainee, waiting)
        if number < often or number % often == 0 or number + 1 == steps:
            mean = dict(zip(TERMS, (sums * trainee.ranks.world_size / (number + 1)).tolist(), strict=True))
            report(number, mean, batch, images.shape[-1])
        if due and stepped is not None:
            stepped(number + 1, sums)
    means = sum_over_ranks((sums / steps).tolist(), sums.device, trainee.ranks)
    return dict(zip(TERMS, means, strict=True))


def _finite(terms: Tensor, mean: Tensor) -> Tensor:
    """A batch's loss terms; where they are not finite the mean so far, which they then leave as it is."""
    return torch.where(terms.isfinite().all(), terms, mean)


def prepare(images: Tensor, trainee: Trainee, epoch: int, number: int) -> Tensor:
    """Bring (B, 3, H, W) bytes to the device as channels-last values in 0..1, at the batch's own size with multi-scale.

    The values are in the precision in which the first convolution reads them: 0..255 is exact in each.
    """
    precision = trainee.precision
    x = as_values(images, precision.device, precision.dtype or torch.float32)
    if not trainee.multi_scale:
        return x
    stride, rng = trainee.stride, np.random.default_rng([trainee.seed, epoch, number])
    low, high = max(trainee.imgsz // 2 // stride, 1), trainee.imgsz * 3 // 2 // stride
    ratio = int(rng.integers(low, high + 1)) * stride / max(x.shape[2:])
    shape = [max(round(side * ratio / stride), 1) * stride for side in x.shape[2:]]
    return F.interpolate(x, shape, mode="bilinear", align_corners=False)


def _backward(trainee: Trainee, images: Tensor, batch: Batch, number: int, waiting: Waiting, *, due: bool) -> dict[str, Tensor]:
    """Add a batch's gradients; those of several ranks are averaged when the optimizer's step is `due`. Return the loss terms."""
    if not waiting.batches:
        trainee.window.keep()
    targets, where = batch.targets.to(images.device, non_blocking=True), f"epoch {waiting.epoch}, batch {number}"
    if trainee.ranks.world_size > 1:
        with _quiet(trainee.parallel, due=due):
            total, terms = backward_together(trainee, images, targets, where)
    else:
        total, terms = backward(trainee, images, targets, where)
    waiting.add(number, batch.paths, total)
    return terms


def _quiet(model: nn.Module, *, due: bool) -> AbstractContextManager[None]:
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not due else contextlib.nullcontext()


def _step(trainee: Trainee, waiting: Waiting) -> None:
    """Clip the gradients, check them, step the optimizer and the average; or see to what is wrong with them."""
    optimizer, scaler = trainee.optimizer, trainee.scaler
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(trainee.parameters(), CLIP, foreach=True)
    verdict = trainee.guard.check(trainee, waiting, norm)
    waiting.batches.clear()
    if verdict is Verdict.SKIP:
        return
    if verdict is Verdict.TAKE:  # a fused SGD whose first step is one that the scaler skips would start from undefined momentum
        scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    trainee.ema.update()


def _draw(*key: int) -> int:
    return int(np.random.default_rng(key).integers(2**63))
