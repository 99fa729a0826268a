"""Where the training of an arm begins: its start weights, what it takes of them, and its AP before the first step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models import build_model
from models.detector import Detector
from models.spec.model_spec import ModelSpec
from models.weights.load import Weights, read_weights
from models.weights.transfer import TransferReport, transfer
from utils.compare.evaluate_run import evaluate_split
from utils.compare.study import StartingPoint, StudyPlan, Variant
from utils.compare.widen import widened_state
from utils.data.config import load_data
from utils.data.scan import load_index
from utils.evaluation.evaluate import Settings
from utils.training.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping


def transferred(variant: Variant, weights: Weights, names: Mapping[int, str], *, seed: int = 0) -> tuple[Detector, TransferReport]:
    """Build a variant's model for classes `names` and transfer the weights, as train.py does.

    Raises:
        UserError: the model cannot be built.
    """
    spec = ModelSpec.from_dict(variant.spec, variant.name)
    model = build_model(spec, len(names), names=names, seed=seed)
    return model, transfer(model, weights, keep_anchors=spec.anchors == weights.spec.anchors)


def start_weights(plan: StudyPlan, variant: Variant, seed: int, study: Path) -> str:
    """The file that a run starts from, "" for none; that of a control is written into the study folder first.

    A reset control starts from the plan's weights without the tensors that its variant loses, so these keep the random values that
    they have when training from scratch. An equal-capacity control has the plan's weights in its wider layers (`utils.compare.widen`).

    Raises:
        UserError: the weights cannot be read, or the file cannot be written.
    """
    if not plan.weights or not variant.control_of:
        return plan.weights
    weights = read_weights(plan.weights)
    if variant.reset:
        path = study / "models" / f"{variant.name}.pt"
        spec, state = weights.spec, {key: tensor for key, tensor in weights.state.items() if key not in variant.reset}
    else:
        path = study / "models" / f"{variant.name}-seed{seed}.pt"
        wide = widened(plan.baseline, variant, weights, seed=seed)
        spec, state = wide.spec, wide.state_dict()
    save_checkpoint(path, as_checkpoint(spec, weights.names, state))
    return str(path)


def widened(base: Variant, control: Variant, weights: Weights, *, seed: int = 0) -> Detector:
    """The model of an equal-capacity control, for the classes of the weights, which it starts from as the baseline does.

    Raises:
        UserError: it cannot hold them.
    """
    model, _ = transferred(base, weights, weights.names, seed=seed)
    wide = build_model(ModelSpec.from_dict(control.spec, control.name), weights.nc, names=weights.names, seed=seed)
    wide.load_state_dict(widened_state(model, wide))
    return wide


def as_checkpoint(spec: ModelSpec, names: Mapping[int, str], state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Weights as a checkpoint from which a training can start."""
    nothing: dict[str, Any] = {"ema": None, "config": {}, "hyp": {}, "epoch": -1, "metrics": {}, "resume": None}
    return {"spec": spec.to_dict(), "names": dict(names), "model": dict(state), **nothing}


def measure_start(plan: StudyPlan, variant: Variant, start: str, seed: int, device: torch.device, workers: int) -> StartingPoint | None:
    """Measure a variant before the first step of the runs of `seed`; None for a training from scratch.

    Where the weights have other classes than the dataset, the head that is trained is random and has no AP. The weights' own head is
    measured then, all classes as one: whether it still finds objects says what the change has left of the trained features.

    Args:
        plan: with the variant's own settings.
        start: the file that its runs start from.

    Raises:
        UserError: weights or dataset cannot be read.
    """
    if not start:
        return None
    weights = read_weights(start)
    original = weights if start == plan.weights else read_weights(plan.weights)
    names = dict(enumerate(plan.data.names))
    model, report = transferred(variant, weights, names, seed=seed)
    same = list(weights.names.values()) == list(plan.data.names)
    if not same:
        model, _ = transferred(variant, weights, weights.names, seed=seed)
    single_cls, classes = plan.flags["single_cls"] or not same, plan.flags["classes"]
    index = load_index(load_data(plan.data.source), plan.data.measured, single_cls=single_cls, classes=classes)
    settings = Settings(single_cls=single_cls, classes=classes if same else None)
    ap = evaluate_split(plan, model.to(device).eval().fuse(), index, settings, device, workers).ap
    return StartingPoint(
        tensors=report.transferred,
        of=len(original.state),
        share=report.share,
        ap=0.0 if math.isnan(ap) else ap,
        own_classes=same,
    )
