"""The figures of a study as PNG and SVG files, for papers and slides. Equal studies give equal files."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from utils.compare.page.report_data import LEVEL, ReportData
from utils.errors import UserError
from utils.files.atomic import atomic_write
from utils.images.writing import optional_output
from utils.log import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#3c4450", "#0072b2", "#d55e00", "#009e73", "#b0569c", "#a67c00", "#2aa1d6", "#7a5195", "#ad2e4f", "#5e8c31")
"""By the index of the variant, as in report.html."""
TONES = {"better": "#00705a", "worse": "#b3401a"}
_SOFT, _GRID = "#8a919c", "#e3e1dc"
_STYLES = ("-", "--", ":")
_AXES = (("parameters", "million parameters", 1e-6), ("gflops", "GFLOPs per image", 1.0), ("latency_ms", "ms per image (median)", 1.0))
_MAX_CLASSES = 30


def write_figures(folder: Path, data: ReportData) -> list[Path]:
    """Write forest, pareto, curves and classes as .png and .svg, and return the paths.

    Raises:
        UserError: a file cannot be written.
    """
    out = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for draw in (forest, pareto, curves, classes):
            with optional_output():
                for name, picture in _drawn(draw, data):
                    with atomic_write(folder / name, durable=False) as file:
                        file.write(picture)
                    out.append(folder / name)
    except OSError as error:
        raise UserError(f"{folder}: the figures cannot be written ({error.strerror or error})") from error
    return out


def _drawn(draw: Callable[[ReportData], Figure], data: ReportData) -> list[tuple[str, bytes]]:
    """The files of a figure and their content, drawn with the same settings everywhere."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # whatever a matplotlibrc says
        mpl.rcParams.update({"svg.hashsalt": "attune", "font.size": 10})
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure, png, svg = draw(data), io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return [(f"{draw.__name__}.png", png.getvalue()), (f"{draw.__name__}.svg", svg.getvalue())]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain(text: str, maximum: int = 34) -> str:
    """A name for matplotlib: without formulas, in one line, abbreviated."""
    text = printable(text)
    text = text if len(text) <= maximum else f"{text[: maximum - 12]}…{text[-11:]}"
    return text.replace("\\", "\\\\").replace("$", r"\$")


def _frame(ax: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    ax.grid(color=_GRID, linewidth=0.8, axis=axis)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(_SOFT)
    ax.tick_params(length=0)


def _from_zero(ax: Axes) -> None:
    """Show nothing below 0 on either axis: neither AP nor a cost is negative."""
    ax.set_xlim(left=max(ax.get_xlim()[0], 0))
    ax.set_ylim(bottom=max(ax.get_ylim()[0], 0))


def _write_message(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=_SOFT)


def colour(variant: ReportData) -> str:
    """The colour of a variant."""
    return COLOURS[variant["index"] % len(COLOURS)]


def forest(data: ReportData) -> Figure:
    """Forest plot: differences in AP with their 95 % CIs over seeds and images together."""
    rows = [v for v in data["variants"] if not v["baseline"]]
    figure = _figure(8, 1.7 + 0.55 * len(rows))
    ax = figure.add_subplot()
    _frame(ax, "x")
    ax.axvline(0, color="black", linewidth=1)
    values = [0.0]
    for y, v in enumerate(rows):
        gap = v["differences"].get("ap", {})
        mean = 100 * gap.get("mean", math.nan)
        shade = TONES.get(v["word"], "black")
        if (pair := gap.get("interval")) and not any(map(math.isnan, pair)):
            across = [100 * x for x in pair]
            ax.plot(across, [y, y], solid_capstyle="butt", marker="|", markersize=8, color=shade, linewidth=2.4)
            values += across
        if math.isnan(mean):
            style: Any = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 8.5, "color": _SOFT}
            ax.annotate("no difference available", (0, y), **style)
            continue
        ax.plot(mean, y, "o", color=shade, markersize=6.5)
        values.append(mean)
    low, high = ax.get_xlim()
    limit = max(1.1 * max(map(abs, values)), 0.2)
    ax.set(xlim=(max(low, -limit), min(high, limit)), ylim=(len(rows) - 0.4, -0.6))
    ax.set_yticks(range(len(rows)), [plain(v["name"]) for v in rows])
    ax.set_xlabel(f"Difference in AP from {plain(data['baseline'])}, points, with {LEVEL} CI over seeds and images")
    return figure


def pareto(data: ReportData) -> Figure:
    """AP against parameters, GFLOPs and latency, with the Pareto front."""
    figure = _figure(13, 4.6)
    handles: dict[str, Any] = {}
    for ax, (key, label, factor) in zip(figure.subplots(1, 3, sharey=True), _AXES, strict=True):
        _frame(ax)
        ax.set_xlabel(label)
        dots = [(v["cost"][key] * factor, 100 * v["scores"]["ap"]["mean"], v) for v in data["variants"]]
        dots = [d for d in dots if not math.isnan(d[0]) and not math.isnan(d[1])]
        if not dots:
            _write_message(ax, "not measured")
            continue
        front = sorted((c, m) for c, m, _ in dots if not any(c2 <= c and m2 >= m and (c2, m2) != (c, m) for c2, m2, _ in dots))
        ax.step(*zip(*front, strict=True), where="post", color=_SOFT, linestyle="--", linewidth=1.2, zorder=1)
        for c, m, v in dots:
            sd = v["scores"]["ap"]["sd"]
            spread, marker = None if math.isnan(sd) else 100 * sd, "s" if v["baseline"] else "o"
            bar = ax.errorbar(c, m, yerr=spread, fmt=marker, color=colour(v), elinewidth=1.2, markersize=7)
            handles.setdefault(plain(v["name"]), bar)
        ax.margins(0.15)
        _from_zero(ax)
    figure.axes[0].set_ylabel("AP, points (mean ± SD over seeds)")
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    return figure


def curves(data: ReportData) -> Figure:
    """AP and AP50 over the epochs: mean over seeds, with a band from the worst to the best seed."""
    figure = _figure(12, 4.8)
    handles: dict[str, Any] = {}
    columns = (("metrics/mAP_0.5:0.95", "AP, points"), ("metrics/mAP_0.5", "AP50, points"))
    for ax, (key, label) in zip(figure.subplots(1, 2), columns, strict=True):
        _frame(ax)
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        for v in data["variants"]:
            if not (band := data["curves"]["values"][v["index"]].get(key)):
                continue
            mean, low, high = ([100 * x for x in band[name]] for name in ("mean", "low", "high"))
            ax.fill_between(band["epoch"], low, high, color=colour(v), alpha=0.13, linewidth=0)
            style = _STYLES[v["index"] // len(COLOURS) % len(_STYLES)]
            (line,) = ax.plot(band["epoch"], mean, style, color=colour(v), linewidth=2.4 if v["baseline"] else 1.7)
            handles.setdefault(plain(v["name"]), line)
        if not ax.lines:
            _write_message(ax, "no learning curves available")
        _from_zero(ax)
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    return figure


def classes(data: ReportData) -> Figure:
    """Differences in AP by class; of many classes, those that differ most."""
    import numpy as np

    rows = [v for v in data["variants"] if v["classes"]]
    table = np.array([v["classes"] for v in rows], float).reshape(len(rows), len(data["classes"])) * 100
    largest = np.nan_to_num(np.abs(table)).max(0) if len(rows) else np.zeros(0)
    chosen = np.sort(np.argsort(-largest, kind="stable")[:_MAX_CLASSES])
    figure = _figure(3.4 + 1.05 * max(len(rows), 2), 1.9 + 0.3 * max(len(chosen), 3))
    ax = figure.add_subplot()
    if not chosen.size:
        ax.set_axis_off()
        _write_message(ax, "no differences available")
        return figure
    limit = max(float(largest.max()), 0.5)
    shown = table[:, chosen].T
    picture = ax.imshow(shown, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for y, x in zip(*np.nonzero(~np.isnan(shown)), strict=True):
        text, ink = f"{shown[y, x]:+.1f}".replace("-", "−"), "white" if abs(shown[y, x]) > 0.72 * limit else "black"
        ax.text(x, y, text, ha="center", va="center", fontsize=8, color=ink)
    ax.set_xticks(range(len(rows)), [plain(v["name"], 22) for v in rows], rotation=35, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(chosen)), [plain(data["classes"][c]) for c in chosen])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure.colorbar(picture, ax=ax, shrink=0.7, label="points")
    ax.set_title(f"Difference in AP from {plain(data['baseline'], 24)}", fontsize=10, loc="left")
    return figure
