"""What a trained run of a study detects in the split whose figures are reported."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from models import load_model
from utils.compare.match_store import match_detections
from utils.compare.resampled_ap import Scores, average_precision
from utils.compare.run_result import MATCHES
from utils.compare.variants import model_side
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.scan import load_index
from utils.data.loading.loader import val_loader
from utils.evaluation.evaluate import Settings, evaluate
from utils.evaluation.metrics import Evaluator

if TYPE_CHECKING:
    import torch

    from utils.compare.study import StudyPlan


def open_splits(plan: StudyPlan) -> dict[str, Index]:
    """Read the splits of the study's data, with the classes it takes.

    Raises:
        UserError: the data set is not there any more.
    """
    data = load_data(plan.data.source)
    return {s: load_index(data, s, single_cls=plan.flags["single_cls"], classes=plan.flags["classes"]) for s in plan.data.splits}


def measure(plan: StudyPlan, home: Path, index: Index, device: torch.device, workers: int, *, same: bool) -> dict[str, Scores]:
    """Measure last.pt's averaged weights and best.pt of a run folder, and store which detections found what.

    Args:
        home: the run folder; the matches go there.
        index: the split to measure.
        same: the best epoch was the last, so that one measurement does for both.

    Raises:
        UserError: damaged weights, or a file that cannot be written.
    """
    scores: dict[str, Scores] = {}
    for which, file in MATCHES.items():
        if which == "best" and same:
            shutil.copyfile(home / MATCHES["last"], home / file)
            scores[which] = scores["last"]
            continue
        model = load_model(home / "weights" / f"{which}.pt", device=device)
        side = model_side(model, plan.flags["imgsz"])
        batch = max(plan.flags["batch_size"] * 2, 1)
        loader = val_loader(index, imgsz=side, batch_size=batch, workers=workers, stride=model.max_stride)
        evaluator = Evaluator(index.names)
        settings = Settings(single_cls=plan.flags["single_cls"], classes=plan.flags["classes"])
        try:
            evaluate(model, loader, index, settings, device=device, evaluator=evaluator)
        finally:
            loader.close()
        matches = match_detections(evaluator, index.names)
        matches.save(home / file)
        scores[which] = average_precision(matches)
    return scores
