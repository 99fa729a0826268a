"""What a training step reads and changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.gate import Replacement, fading
from utils.data.loading.loader import Batch
from utils.distributed import SINGLE, Ranks
from utils.training.amp import Precision
from utils.training.ema import ModelEMA
from utils.training.events import Events
from utils.training.losses.criterion import Criterion
from utils.training.optim import Schedule

TERMS = ("box", "obj", "cls")
"""Of the loss."""

Report = Callable[[int, list[float], Batch, int], None]
"""Called after a batch with its number, the means of the loss terms so far, the batch, and the image size in pixels it was trained at."""

OnStep = Callable[[int, Tensor], None]
"""Called after an optimizer step with the number of the next batch and this rank's sums of the loss terms so far.

No gradients are accumulated then: weights, optimizer and EMA are all it takes to resume from there.
"""


def noop(*_: object) -> None:
    """A callback that does nothing."""


class Position(NamedTuple):
    """Where in an epoch training stands.

    Attributes:
        batch: the next one; the number of batches when only the validation is left.
        sums: of the loss terms of the batches before, on this rank.
    """

    batch: int = 0
    sums: tuple[float, ...] = (0.0,) * len(TERMS)


START = Position()


@dataclasses.dataclass(slots=True, kw_only=True)
class TrainState:
    """Everything a training step reads and changes.

    Attributes:
        model: the detector itself.
        layers: its rows.
        wrapped: the model as a step calls it: compiled, in DistributedDataParallel, recomputing its activations, or as it is.
        gates: of blocks that fade in, in the model and in the EMA; see `Schedule.fade`.
        recompute: whether it recomputes its activations in the backward pass.
    """

    model: nn.Module
    layers: Sequence[nn.Module]
    wrapped: Callable[[Tensor], Sequence[Tensor]]
    criterion: Criterion
    optimizer: Optimizer
    schedule: Schedule
    ema: ModelEMA
    precision: Precision
    scaler: torch.amp.GradScaler
    seed: int
    imgsz: int
    stride: int
    gates: Sequence[Replacement] = dataclasses.field(init=False)
    frozen: frozenset[int] = frozenset()
    multi_scale: bool = False
    recompute: bool = False
    ranks: Ranks = SINGLE
    events: Events = dataclasses.field(default_factory=Events)

    def __post_init__(self) -> None:
        self.gates = [*fading(self.model), *fading(self.ema.module)]

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer changes."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]
