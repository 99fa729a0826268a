"""Measuring a trained run on the split whose figures are reported."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from models.weights.load import load_model
from utils.compare.match_store import match_detections
from utils.compare.resampled_ap import Scores, average_precision
from utils.compare.run_result import MATCHES
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.loading.loader import val_loader
from utils.data.scan import load_index
from utils.evaluation.evaluate import Settings, evaluate
from utils.evaluation.metrics import Evaluator, Metrics
from utils.files.atomic import atomic_write
from utils.geometry import training_side

if TYPE_CHECKING:
    import torch

    from models.detector import Detector
    from utils.compare.study import StudyPlan


def open_splits(plan: StudyPlan) -> dict[str, Index]:
    """Read the splits of the study's dataset, with its choice of classes.

    Raises:
        UserError: the dataset is missing.
    """
    data = load_data(plan.data.source)
    return {s: load_index(data, s, single_cls=plan.flags["single_cls"], classes=plan.flags["classes"]) for s in plan.data.splits}


def evaluate_split(
    plan: StudyPlan,
    model: Detector,
    index: Index,
    settings: Settings,
    device: torch.device,
    workers: int,
    evaluator: Evaluator | None = None,
) -> Metrics:
    """Evaluate a model on a split as its training would, at the study's image size."""
    side, batch = training_side(plan.flags["imgsz"], model.max_stride), max(plan.flags["batch_size"] * 2, 1)
    loader = val_loader(index, imgsz=side, batch_size=batch, workers=workers, stride=model.max_stride)
    with contextlib.closing(loader):
        return evaluate(model, loader, index, settings, device=device, evaluator=evaluator).metrics


def measure(plan: StudyPlan, folder: Path, index: Index, device: torch.device, workers: int, *, same: bool) -> dict[str, Scores]:
    """Measure the EMA weights of last.pt and best.pt, and store their matched detections.

    Args:
        folder: the run folder, where the matches are stored.
        index: the split to measure.
        same: the best epoch is the last one, so that one measurement serves for both.

    Raises:
        UserError: damaged weights, or a file that cannot be written.
    """
    scores: dict[str, Scores] = {}
    for which, file in MATCHES.items():
        if which == "best" and same:
            with atomic_write(folder / file) as out:
                out.write((folder / MATCHES["last"]).read_bytes())
            scores[which] = scores["last"]
            continue
        model, evaluator = load_model(folder / "weights" / f"{which}.pt", device=device), Evaluator(index.names)
        settings = Settings(single_cls=plan.flags["single_cls"], classes=plan.flags["classes"], nms=plan.flags["nms"])
        evaluate_split(plan, model, index, settings, device, workers, evaluator)
        matches = match_detections(evaluator)
        matches.save(folder / file)
        scores[which] = average_precision(matches)
    return scores
