"""Charts: curves, confusion matrix, training history, annotation statistics.

Drawn on their own matplotlib figures, never through pyplot, whose state belongs to the caller.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from utils.evaluation.metrics import Metrics
from utils.files.atomic import atomic_write
from utils.images.drawing import colour
from utils.log import printable

MAX_LISTED = 20
"""Up to so many classes, each has its own line and legend entry."""

MAX_CELLS = 1000
"""Up to so many classes, each has a row and column of its own in the picture of the confusion matrix."""

_BLUE, _ORANGE = "#1f5fa8", "#e07b00"
_ROUNDS = (("train/box_loss", "train/obj_loss", "train/cls_loss", "metrics/precision", "metrics/recall"),
           ("val/box_loss", "val/obj_loss", "val/cls_loss", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"))  # fmt: skip


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Draw with matplotlib's defaults, whatever a matplotlibrc says: one in the working folder may name programs (``text.usetex``)."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


def new_figure(width: float, height: float) -> Figure:
    """Create a figure, in inches, with constrained layout."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure; glyphs missing from the font are drawn as boxes, without warnings."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(picture, dpi=dpi)
    with atomic_write(path, durable=False) as file:
        file.write(picture.getvalue())


def plain(name: str) -> str:
    """A class name for matplotlib: no formulas, no line breaks, at most 24 characters."""
    text = printable(" ".join(name.split()))
    return (text if len(text) <= 24 else text[:23] + "…").replace("$", r"\$")


@own_settings()
def plot_curves(folder: Path, metrics: Metrics) -> None:
    """Write PR_curve.png, F1_curve.png, P_curve.png and R_curve.png: a line per class when they are few, and the mean."""
    curves = metrics.curves
    at, labels = curves.confidence, {c.index: plain(c.name) for c in metrics.per_class}
    with_ap = {c.index: f"{plain(c.name)} {c.ap50:.3f}" for c in metrics.per_class}
    _curve(folder / "PR_curve.png", at, curves.envelope, with_ap, ("Recall", "Precision"), f"mAP50 {metrics.ap50:.3f}")
    for file, values, title in (("F1", curves.f1, "F1"), ("P", curves.precision, "Precision"), ("R", curves.recall, "Recall")):
        mean = values.mean(0) if len(values) else np.zeros_like(at)
        best = curves.best if file == "F1" else int(mean.argmax())
        _curve(folder / f"{file}_curve.png", at, values, labels, ("Confidence", title), f"{mean[best]:.2f} at {at[best]:.3f}")


def _curve(
    path: Path, x: NDArray[np.float64], lines: NDArray[np.float64], labels: Mapping[int, str], axes: tuple[str, str], note: str
) -> None:
    figure = new_figure(9, 6)
    ax = figure.add_subplot()
    few = len(lines) <= MAX_LISTED
    for line, (cls, label) in zip(lines, labels.items(), strict=True):
        ax.plot(x, line, linewidth=1.2 if few else 0.6, color=rgb(cls) if few else "0.75", label=label if few else None)
    if len(lines):
        ax.plot(x, lines.mean(0), linewidth=3, color=_BLUE, label=f"all classes: {note}")
    ax.set(xlabel=axes[0], ylabel=axes[1], xlim=(0, 1), ylim=(0, 1.02), title=f"{axes[1]} over {axes[0].lower()}")
    _plain_frame(ax)
    ax.set_axisbelow(True)
    if len(lines):
        ax.legend(bbox_to_anchor=(1.02, 1), loc="upper left", borderaxespad=0, frameon=False, fontsize=9)
    save(figure, path)


def _plain_frame(ax: Axes) -> None:
    ax.grid(color="0.92")
    ax.spines[["top", "right"]].set_visible(False)


def rgb(cls: int) -> tuple[float, float, float]:
    """The colour that a class has in images too, as matplotlib takes it; light ones are darkened for a white background."""
    b, g, r = (c / 255 for c in colour(cls))
    dim = min(0.55 / max(0.299 * r + 0.587 * g + 0.114 * b, 1e-9), 1.0)
    return r * dim, g * dim, b * dim


@own_settings()
def plot_confusion(path: Path, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw the matrix, each column normalized by the true class; shares below 0.005 stay blank.

    Of more classes than a picture has room for, a cell shows the largest share of several. Of an empty matrix there is no picture.
    """
    if not matrix.size:
        return
    n = len(matrix)
    share = (matrix / np.maximum(matrix.sum(0, keepdims=True), 1)).astype(np.float32)
    for axis in (0, 1):
        share = np.maximum.reduceat(share, np.arange(0, n, -(-n // MAX_CELLS)), axis)
    shown = np.where(share < 0.005, np.nan, share)
    titles = [plain(name) for name in [*names, "background"]]
    side = min(max(0.42 * n + 3, 6), 18)
    figure = new_figure(side * 1.12, side)
    ax = figure.add_subplot()
    picture = ax.imshow(shown, cmap="Blues", vmin=0, vmax=1, extent=(-0.5, n - 0.5, n - 0.5, -0.5))
    ax.set_facecolor("white")
    if n <= 30:
        for row, column in zip(*np.nonzero(~np.isnan(shown)), strict=True):
            value = shown[row, column]
            ink = "white" if value > 0.5 else "0.15"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=8 if n <= 20 else 6)
    size = min(0.65 * 72 * side / n, 11)
    if size > 3:  # points; below, no name could be read
        ax.set_xticks(range(n), titles, rotation=90, fontsize=size)
        ax.set_yticks(range(n), titles, fontsize=size)
        ax.set_xticks(np.arange(-0.5, n), minor=True)
        ax.set_yticks(np.arange(-0.5, n), minor=True)
        ax.grid(which="minor", color="0.93", linewidth=0.5)
    ax.tick_params(which="both", length=0)
    ax.set(xlabel="True class", ylabel="Predicted class", title="Confusion matrix (share of the true class)")
    figure.colorbar(picture, ax=ax, shrink=0.8, pad=0.02)
    save(figure, path)


@own_settings()
def plot_results(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Draw losses and metrics over the epochs, with smoothed curves dotted; `rows` are those of results.csv."""
    from scipy.ndimage import gaussian_filter1d  # a quarter of a second, which the plots at the start of a training need not wait for

    epochs = [row["epoch"] for row in rows]
    figure = new_figure(14, 6)
    panels = figure.subplots(2, 5)
    for row, columns in zip(panels, _ROUNDS, strict=True):
        for ax, name in zip(row, columns, strict=True):
            values = np.array([row[name] for row in rows])
            ax.plot(epochs, values, marker="." if len(epochs) < 50 else None, color=_BLUE, linewidth=1.6, label="each epoch")
            if len(epochs) > 2:
                ax.plot(epochs, gaussian_filter1d(values, 3), ":", color=_ORANGE, linewidth=2, label="smoothed")
            ax.set_title(name, fontsize=11)
            _plain_frame(ax)
            ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in panels[1]:
        ax.set_xlabel("epoch")
    panels[0, 1].legend(frameon=False, fontsize=9)
    save(figure, path)


@own_settings()
def plot_labels(path: Path, annotations: NDArray[np.float32], names: Mapping[int, str]) -> None:
    """Draw the statistics of a dataset: boxes per class, box shapes, positions and sizes.

    Args:
        annotations: (n, 5) class id, cx, cy, w, h, normalized.
    """
    figure = new_figure(11, 10)
    (counts, outlines), (places, sizes) = figure.subplots(2, 2)
    count = np.bincount(annotations[:, 0].astype(int), minlength=len(names))
    bars = counts.bar(range(len(count)), count, color=[rgb(c) for c in range(len(count))])
    counts.set(title=f"{len(annotations)} boxes of {int((count > 0).sum())} classes", ylabel="boxes", xlim=(-0.6, len(count) - 0.4))
    counts.spines[["top", "right"]].set_visible(False)
    if len(names) <= 30:
        titles = [plain(names[c]) for c in range(len(names))]
        counts.set_xticks(range(len(names)), titles, rotation=90 if max(map(len, titles)) * len(titles) > 45 else 0, fontsize=9)
        counts.bar_label(bars, fontsize=8)
        counts.margins(y=0.1)
    else:
        counts.set_xlabel("class")
    for cls, _, _, w, h in annotations[:: max(len(annotations) // 1000, 1)][:1000].tolist():
        outlines.add_patch(Rectangle((0.5 - w / 2, 0.5 - h / 2), w, h, fill=False, linewidth=0.6, alpha=0.5, edgecolor=rgb(int(cls))))
    outlines.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="Box shapes, centred", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    for ax, x, y, axes in ((places, 1, 2, ("centre x", "centre y")), (sizes, 3, 4, ("width", "height"))):
        heat = ax.hist2d(annotations[:, x], annotations[:, y], bins=50, range=((0, 1), (0, 1)), cmap="viridis", cmin=1)
        ax.set(xlabel=f"{axes[0]} (share of the image)", ylabel=f"{axes[1]} (share of the image)", aspect="equal")
        figure.colorbar(heat[3], ax=ax, label="boxes", shrink=0.85)
    places.invert_yaxis()  # as in the image: y grows downwards
    places.set_title("Where boxes lie")
    sizes.set_title("How large boxes are")
    save(figure, path, dpi=110)


@own_settings()
def plot_study(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw mAP and time per image over the image size; `rows` hold "imgsz", "ap", "ap50" and "inference" in ms."""
    figure = new_figure(10, 4.5)
    accuracy, speed = figure.subplots(1, 2)
    sizes = [row["imgsz"] for row in rows]
    accuracy.plot(sizes, [row["ap"] for row in rows], "o-", color=_BLUE, label="mAP50-95")
    accuracy.plot(sizes, [row["ap50"] for row in rows], "o-", color=_ORANGE, label="mAP50")
    accuracy.set(xlabel="image size (pixels)", ylabel="mAP", title="Accuracy")
    accuracy.legend(frameon=False)
    speed.plot([row["inference"] for row in rows], [row["ap"] for row in rows], "o-", color=_BLUE)
    for row in rows:
        speed.annotate(str(row["imgsz"]), (row["inference"], row["ap"]), textcoords="offset points", xytext=(5, -10), fontsize=8)
    speed.set(xlabel="inference (ms per image)", ylabel="mAP50-95", title="Accuracy against time, by image size")
    for ax in (accuracy, speed):
        _plain_frame(ax)
    save(figure, path)
