"""What a training says before its first epoch: the settings that differ from the defaults, the model, the optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from models.detector import Detector
from models.flops import gflops, parameters
from utils.config import TrainConfig
from utils.log import LOG
from utils.training.ema import HORIZON
from utils.training.run_state import Run
from utils.training.state import TrainState


def log_overview(run: Run) -> None:
    """Log it, a line each."""
    LOG.info("settings: %s; all others have their defaults", ", ".join((*changed(run.config), *changed(run.hyp))) or "none given")
    LOG.info(model_line(run.state.model))  # type: ignore[arg-type]
    LOG.info(optimizer_line(run.state, run.config.optimizer))


def short_run_line(run: Run) -> str:
    """Where to find hyper-parameters for a run that is shorter than what YOLOv5's EMA averages over; empty if it is not, or has its own."""
    updates = run.state.schedule.updates
    if updates >= HORIZON or run.config.hyp != TrainConfig().hyp:
        return ""
    return f"a short run, of {updates} optimizer steps: --hyp hyp.small.yaml has hyper-parameters for that"


def changed(settings: Any) -> Iterator[str]:
    """The fields of a dataclass that differ from their defaults, as ``name=value``."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            yield f"{field.name}={' '.join(map(str, value)) if isinstance(value, tuple) else value}"


def model_line(model: Detector) -> str:
    """One line, such as ``model: 181 layers in 25 rows, 1,872,157 parameters, 4.5 GFLOPs at 640x640``."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    count = parameters(model)
    frozen = f" ({count - trained:,} frozen)" if trained < count else ""
    layers = sum(not list(module.children()) for module in model.modules())
    return f"model: {layers} layers in {len(model.model)} rows, {count:,} parameters{frozen}, {gflops(model):.1f} GFLOPs at 640x640"


def optimizer_line(state: TrainState, name: str) -> str:
    """One line about the optimizer's groups."""
    groups, hyp = state.optimizer.param_groups, state.schedule.hyp
    biases, decayed, undecayed = (sum(len(group["params"]) for group in groups[kind::3]) for kind in range(3))
    decay, lr0 = groups[1]["weight_decay"], hyp.lr0
    backbone = sum(len(group["params"]) for group in groups[3:])
    slow = f"; {backbone} of them, the backbone's, with lr0 {hyp.lr0 * hyp.backbone_lr:g}" if backbone else ""
    return f"optimizer: {name}, lr0 {lr0:g}; {decayed} weights with decay {decay:g}, {undecayed} weights and {biases} biases without{slow}"
