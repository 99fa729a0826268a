"""A tiny model in training, with random noise for images: what tests and fault groups of the training step start from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from models import build_model
from tests.tiny_model import TINY
from utils.config import Hyp
from utils.data.loading.loader import Batch
from utils.training.amp import Precision
from utils.training.ema import ModelEMA
from utils.training.engine import train_one_epoch
from utils.training.losses.loss import DetectionLoss
from utils.training.nonfinite import NonFiniteGuard
from utils.training.optim import Schedule, build_optimizer
from utils.training.state import TrainState

MODEL: dict[str, Any] = TINY | {
    "nc": 3,
    "head": [
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [-1, 1, "CoordAtt", [8]],
        [[7, 4], 1, "Detect", ["nc", "anchors"]],
    ],
}
SIDE = 64


class Noise:
    """A loader of batches that are a function of epoch and number."""

    def __init__(self, batches: int = 6, images: int = 4) -> None:
        self.batches, self.images = batches, images

    def __len__(self) -> int:
        return self.batches

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number in range(start, self.batches):
            generator = torch.Generator().manual_seed(1000 * epoch + number)
            images = torch.randint(0, 256, (self.images, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
            targets = torch.rand(2 * self.images + 1, 6, generator=generator) * 0.4 + 0.2
            targets[:, 0] = torch.arange(len(targets)) % self.images
            targets[:, 1] = torch.arange(len(targets)) % 3
            names = [f"{epoch}_{number}_{i}.jpg" for i in range(self.images)]
            yield Batch(images, targets, list(range(self.images)), names)


def new_state(*, optimizer: str = "SGD", batch: int = 4, epochs: int = 2, steps: int = 6, **settings: Any) -> TrainState:
    """A model with the weights of seed 0, before its first step."""
    hyp = Hyp()
    model = build_model(MODEL, seed=0)
    return TrainState(
        model=model,
        layers=list(model.model),
        wrapped=model,
        criterion=DetectionLoss(model.head, hyp, SIDE, 3),
        optimizer=build_optimizer(model, optimizer, hyp, batch),
        schedule=Schedule(hyp, epochs, steps, batch),
        ema=ModelEMA(model),
        precision=Precision(torch.device("cpu")),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        seed=0,
        imgsz=SIDE,
        stride=model.max_stride,
        **settings,
    )


def train(state: TrainState, epochs: int = 2, loader: Noise | None = None, guard: NonFiniteGuard | None = None) -> list[dict[str, float]]:
    """The loss terms of each epoch."""
    guard = guard or NonFiniteGuard(state)
    return [train_one_epoch(state, loader or Noise(), epoch, guard, lambda *_: None) for epoch in range(epochs)]  # type: ignore[arg-type]


def state_of(state: TrainState) -> dict[str, Tensor]:
    """Copies of weights, statistics, EMA and optimizer state."""
    found = {f"model.{k}": v.clone() for k, v in state.model.state_dict().items()}
    found |= {f"ema.{k}": v.clone() for k, v in state.ema.module.state_dict().items()}
    for number, entry in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{number}.{k}": torch.as_tensor(v).clone() for k, v in entry.items() if v is not None}
    return found | {"updates": torch.tensor(state.ema.updates)}


def differing(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 0.0) -> list[str]:
    """Names of what is not equal; with a `tolerance`, of what differs by more than that times (1 + its largest value)."""
    assert a.keys() == b.keys()
    far = {k: float((a[k].double() - b[k].double()).abs().max()) if a[k].numel() else 0.0 for k in a}
    return [k for k in a if not (torch.equal(a[k], b[k]) or far[k] <= tolerance * (1 + float(b[k].double().abs().max())))]
