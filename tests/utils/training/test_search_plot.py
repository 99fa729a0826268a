"""The picture of a search."""

from __future__ import annotations

import cv2
import numpy as np

from utils.training.search_plot import plot_search, search_figure
from utils.training.search_space import read_space

ROWS = [
    {"fitness": "0.3", "lr0": "0.01", "momentum": "0.9", "box_loss": "ciou"},
    {"fitness": "0.4", "lr0": "0.02", "momentum": "0.7", "box_loss": "ciou"},
    {"fitness": "nan", "lr0": "0.09", "momentum": "0.8", "box_loss": "ciou"},
]


def test_each_hyper_parameter_has_a_panel_with_all_trials(tmp_path, recwarn):
    figure = search_figure(ROWS, read_space(["lr0", "momentum"]))
    assert figure.get_suptitle() == "3 trials, 1 failed (×); best: trial 1, fitness 0.4 (★)"
    lr0, momentum = figure.axes
    assert (lr0.get_title(), momentum.get_title()) == ("lr0 0.02", "momentum 0.7")
    assert (lr0.get_xscale(), momentum.get_xscale()) == ("log", "linear")
    assert (lr0.get_xlim(), momentum.get_xlim()) == ((1e-5, 0.1), (0.6, 0.98))
    assert lr0.collections[0].get_offsets().tolist() == [[0.01, 0.3], [0.02, 0.4]]
    failed, best = momentum.lines
    assert (failed.get_xdata().tolist(), best.get_xydata().tolist()) == ([0.8], [[0.7, 0.4]])
    plot_search(tmp_path / "evolve.png", ROWS, read_space(["lr0", "momentum"]))
    assert not recwarn.list  # everything has its place
    assert np.ptp(cv2.imread(str(tmp_path / "evolve.png"))) > 200


def test_more_panels_than_a_row_has():
    rows = [dict.fromkeys(("lr0", "lrf", "momentum", "box", "cls", "obj", "fitness"), "0.05")]
    figure = search_figure(rows, read_space(["lr0", "lrf", "momentum", "box", "cls", "obj"]))
    assert [ax.get_visible() for ax in figure.axes] == [True] * 6 + [False] * 4
