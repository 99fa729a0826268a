"""The optimizer with its parameter groups, and its schedule as a function of the step."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from models.detector import Detector
from utils.config import Hyp
from utils.errors import UserError

_FADE = 0.6  # of all steps
_UNDECAYED = re.compile(
    r"(^|_)(pos|position|rel|relative|table|token|embed|embedding|gate|gamma|scale|ape)(_|$|s$)|^(height|width|complex_weight)$"
)


def accumulation(hyp: Hyp, batch_size: int) -> int:
    """Batches to accumulate per optimizer step."""
    return max(round(hyp.nominal_batch / batch_size), 1)


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Split the trainable parameters into biases, decayed weights, and undecayed weights.

    Undecayed are norm weights and everything else of one dimension (layer scales, gates), and by name position embeddings,
    tables and spectra.
    """
    biases, decayed, undecayed = [], [], []
    for path, parameter in model.named_parameters():
        name = path.rpartition(".")[2]
        if not parameter.requires_grad:
            continue
        if name == "bias" or name.endswith("_bias"):
            biases.append(parameter)
        elif parameter.ndim <= 1 or _UNDECAYED.search(name):
            undecayed.append(parameter)
        else:
            decayed.append(parameter)
    return biases, decayed, undecayed


def build_optimizer(model: nn.Module, name: str, hyp: Hyp, batch_size: int) -> Optimizer:
    """Build the optimizer `name` with the groups biases, decayed weights, undecayed weights, in this order.

    With ``backbone_lr`` the same three of the backbone follow, with a learning rate of their own.

    Args:
        model: its frozen parameters are left out.
        name: SGD (with Nesterov momentum), Adam or AdamW.
        hyp: lr0, momentum (Adam's beta1) and weight_decay, which is for the nominal batch.
        batch_size: images per batch over all ranks.
    """
    kinds = parameter_groups(model)
    slow = _backbone(model) if hyp.backbone_lr != 1 else set()
    decay = hyp.weight_decay * batch_size * accumulation(hyp, batch_size) / hyp.nominal_batch
    groups: list[dict[str, Any]] = [{"params": [p for p in kind if p not in slow]} for kind in kinds]
    if slow:
        groups += [{"params": [p for p in kind if p in slow], "lr_factor": hyp.backbone_lr} for kind in kinds]
    for group in groups[1::3]:
        group["weight_decay"] = decay
    if name == "SGD":
        return torch.optim.SGD(groups, lr=hyp.lr0, momentum=hyp.momentum, nesterov=hyp.momentum > 0, weight_decay=0, fused=_fusible(model))
    kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[name]
    return kind(groups, lr=hyp.lr0, betas=(hyp.momentum, 0.999), weight_decay=0, fused=_fusible(model))


def _backbone(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of the rows that read the image and whose maps ``Feature`` picks: HorNet, timm ...

    Raises:
        UserError: there is no such row.
    """
    rows = model.spec.rows if isinstance(model, Detector) else ()
    picked = {row.sources[0] for row in rows if row.name == "Feature"}
    whole = [model.get_submodule(f"model.{row.index}") for row in rows if row.index in picked and row.sources == (-1,)]
    found = {parameter for layer in whole for parameter in layer.parameters()}
    if not found:
        raise UserError("hyper-parameter backbone_lr: the model has no row that is a whole backbone, such as timm or HorNet; leave it at 1")
    return found


def _fusible(model: nn.Module) -> bool:
    return next(model.parameters()).device.type in ("cpu", "cuda")


class Setting(NamedTuple):
    """Of the optimizer at one step."""

    lr: tuple[float, float, float]
    """Of biases, decayed weights, undecayed weights."""
    momentum: float
    accumulate: int
    """Batches per optimizer step."""


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rates, momentum and accumulation as a pure function of step and epoch.

    Attributes:
        hyp: lr0, lrf, momentum and the warm-up's settings.
        epochs: total number of epochs.
        steps: batches per epoch.
        batch_size: images per batch over all ranks.
        cosine: decay by half a cosine from 1 to lrf instead of linearly.
    """

    hyp: Hyp
    epochs: int
    steps: int
    batch_size: int
    cosine: bool = False

    @property
    def warmup(self) -> int:
        """Batches of warm-up."""
        return max(round(self.hyp.warmup_epochs * self.steps), round(self.hyp.warmup_steps))

    @property
    def updates(self) -> int:
        """Optimizer steps of the run, had it no warm-up."""
        return self.epochs * math.ceil(self.steps / accumulation(self.hyp, self.batch_size))

    def factor(self, epoch: int) -> float:
        """Learning rate of an epoch after warm-up, relative to lr0."""
        done = epoch / self.epochs
        left = (1 + math.cos(math.pi * done)) / 2 if self.cosine else 1 - done
        return left * (1 - self.hyp.lrf) + self.hyp.lrf

    def fade(self, step: int) -> float:
        """How far a block that replaces another has faded in at batch `step`: linearly from 0 to 1, and 1 for the rest of the run."""
        return min(step / max(int(_FADE * self.epochs * self.steps), 1), 1.0)

    def at(self, step: int, epoch: int) -> Setting:
        """Return the setting of batch `step`, counted from the start of the run, which lies in `epoch`."""
        hyp, lr, full = self.hyp, self.hyp.lr0 * self.factor(epoch), accumulation(self.hyp, self.batch_size)
        if step > self.warmup:
            return Setting((lr, lr, lr), hyp.momentum, full)
        done = step / self.warmup

        def ramp(start: float, end: float) -> float:
            return start + (end - start) * done

        weights = ramp(0.0, lr)
        accumulate = max(1, round(ramp(1, self.hyp.nominal_batch / self.batch_size)))
        return Setting((ramp(hyp.warmup_bias_lr, lr), weights, weights), ramp(hyp.warmup_momentum, hyp.momentum), accumulate)


def apply_setting(optimizer: Optimizer, setting: Setting) -> None:
    """Write a setting into the optimizer's groups; momentum only for SGD."""
    for i, group in enumerate(optimizer.param_groups):
        group["lr"] = setting.lr[i % 3] * group.get("lr_factor", 1.0)
        if "momentum" in group:
            group["momentum"] = setting.momentum
