"""Pictures and charts: written, of a sensible size, and drawn where they should be."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from utils.config import ROOT
from utils.data.index import GroundTruth
from utils.data.loading.loader import Batch
from utils.evaluation.batch_plots import grid, plot_batch
from utils.evaluation.charts import plot_confusion, plot_curves, plot_labels, plot_results, plot_study
from utils.evaluation.metrics import Evaluator
from utils.images.drawing import colour
from utils.images.letterbox import fit
from utils.training.history import COLUMNS

NAMES = {0: "ship", 1: "日本 $x_1$", 2: "a very long name of a class indeed"}


def batch(n: int) -> Batch:
    boxes = [fit((50, 100), (128, 128)) for _ in range(n)]
    targets = torch.tensor([[0, 0, 0.5, 0.5, 0.5, 0.25]])
    return Batch(torch.full((n, 3, 128, 128), 255, dtype=torch.uint8), targets, list(range(n)), [f"d/{i}.jpg" for i in range(n)], boxes)


def test_labels_and_predictions_of_a_batch(tmp_path: Path) -> None:
    weak = [80.0, 10, 90, 20, 0.2, 1]
    found = [np.array([[25, 12.5, 75, 37.5, 0.9, 0], weak], np.float32)] + [np.zeros((0, 6), np.float32)] * 19
    plot_batch(tmp_path / "labels.png", batch(20), NAMES)
    plot_batch(tmp_path / "pred.png", batch(20), NAMES, found)
    for name in ("labels.png", "pred.png"):  # the same box: the label in the batch, the prediction in the source
        image = cv2.imread(str(tmp_path / name))
        assert image is not None
        assert image.shape == (4 * 128 + 3 * 4, 4 * 128 + 3 * 4, 3)  # 16 of the 20, in a square
        assert tuple(image[80, 64]) == colour(0)
        assert not (image == colour(1)).all(2).any()  # below 0.25


def test_large_batches_shrink(tmp_path: Path) -> None:
    large = Batch(torch.zeros(4, 3, 1280, 1280, dtype=torch.uint8), torch.zeros(0, 6), [0] * 4, ["a.jpg"] * 4, None)
    plot_batch(tmp_path / "b.jpg", large, NAMES)
    image = cv2.imread(str(tmp_path / "b.jpg"))
    assert image is not None
    assert max(image.shape) <= 1930


@pytest.mark.parametrize(("tiles", "shape"), [(1, (10, 20)), (2, (24, 20)), (16, (66, 60))])
def test_grid_has_few_gaps(tiles: int, shape: tuple[int, int]) -> None:
    out = grid([np.zeros((10, 20, 3), np.uint8)] * tiles)
    assert (out.size // 3 - (out == 255).all(2).sum()) == tiles * 200
    assert tiles == 16 or out.shape[:2] == shape


@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_results(tmp_path: Path, epochs: int) -> None:
    plot_results(tmp_path / "results.png", [dict.fromkeys(COLUMNS, 0.5) | {"epoch": epoch} for epoch in range(epochs)])
    assert (tmp_path / "results.png").stat().st_size > 10_000


def test_charts_of_any_names_and_of_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    low = random.uniform(0, 100, (30, 2)).astype(np.float32)
    boxes, labels = np.concatenate((low, low + 20), 1), random.integers(0, 3, 30)
    rows = np.column_stack((boxes, np.linspace(0.9, 0.1, 30), labels)).astype(np.float32)
    full, empty = Evaluator(NAMES), Evaluator(NAMES)
    full.add(0, rows, GroundTruth(labels, boxes, np.full(30, 400.0), np.zeros(30, bool)))
    for evaluator in (full, empty):
        plot_curves(tmp_path, evaluator.compute())
        assert sorted(p.name for p in tmp_path.glob("*_curve.png")) == ["F1_curve.png", "PR_curve.png", "P_curve.png", "R_curve.png"]
    plot_confusion(tmp_path / "c.png", np.eye(4, dtype=np.int64), list(NAMES.values()))
    plot_confusion(tmp_path / "c.png", np.zeros((4, 4), np.int64), list(NAMES.values()))
    plot_labels(tmp_path / "l.jpg", np.column_stack((labels, random.uniform(0.2, 0.8, (30, 4)))).astype(np.float32), NAMES)
    plot_labels(tmp_path / "l.jpg", np.zeros((0, 5), np.float32), NAMES)
    plot_study(tmp_path / "s.png", [{"imgsz": 256, "ap": 0.1, "ap50": 0.2, "inference": 1.0}])


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    code = f"""
import sys, pathlib, numpy
from utils.evaluation.charts import plot_confusion
plot_confusion(pathlib.Path({str(tmp_path)!r}) / "c.png", numpy.eye(2, dtype=int), ["a"])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
