"""The plots of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.images.writing import optional_output
from utils.training.history import read_curve

if TYPE_CHECKING:
    from utils.data.index import Index
    from utils.data.loading.loader import Batch
    from utils.evaluation.metrics import Metrics

_BATCHES = 3
"""Number of training batches that are drawn."""


def draw_labels(folder: Path, index: Index) -> None:
    """Draw labels.jpg: classes, positions and sizes of the training boxes."""
    with optional_output():
        from utils.evaluation.charts import plot_labels

        plot_labels(folder / "labels.jpg", np.concatenate([index.annotations_of(i) for i in range(len(index))]), index.names)


def draw_train_batch(folder: Path, number: int, batch: Batch, names: dict[int, str]) -> None:
    """Draw train_batch0.jpg to train_batch2.jpg: the first batches, augmented."""
    if number < _BATCHES:
        with optional_output():
            from utils.evaluation.batch_plots import plot_batch

            plot_batch(folder / f"train_batch{number}.jpg", batch, names)


def draw_results(folder: Path, metrics: Metrics, names: dict[int, str]) -> None:
    """Draw results.png, the curves, and the confusion matrix of the best weights."""
    with optional_output():
        from utils.evaluation.charts import plot_confusion, plot_curves, plot_results

        plot_results(folder / "results.png", read_curve(folder))
        plot_curves(folder, metrics)
        plot_confusion(folder / "confusion_matrix.png", metrics.confusion, list(names.values()))
