"""The picture of a search, evolve.png: each searched hyper-parameter against the fitness of its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from utils.evaluation.charts import new_figure, own_settings, save
from utils.log import counted
from utils.training.search import best_trial
from utils.training.search_space import Space

_COLUMNS = 5


@own_settings()
def plot_search(path: Path, rows: Sequence[Mapping[str, str]], space: Space) -> None:
    """Draw it; `rows` are those of evolve.csv.

    Raises:
        OSError: it cannot be written.
    """
    save(search_figure(rows, space), path, dpi=110)


def search_figure(rows: Sequence[Mapping[str, str]], space: Space) -> Figure:
    """A panel for each hyper-parameter, over its bounds: later trials darker, the best one a star, failed ones crosses at the bottom."""
    fitness = [float(row["fitness"]) for row in rows]
    best = best_trial(fitness)
    done = [n for n, f in enumerate(fitness) if not math.isnan(f)]
    failed = [n for n, f in enumerate(fitness) if math.isnan(f)]
    columns = min(len(space), _COLUMNS)
    lines = -(-len(space) // columns)
    figure = new_figure(max(2.6 * columns, 4), 2.5 * lines + 0.5)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for ax in panels.flat[len(space) :]:
        ax.set_visible(False)
    for ax, (name, bounds) in zip(panels.flat, space.items(), strict=False):
        values = [float(row[name]) for row in rows]
        ax.scatter(
            [values[n] for n in done],
            [fitness[n] for n in done],
            c=done,
            cmap="Blues",
            vmin=-len(rows) / 3,
            vmax=len(rows),
            s=22,
            clip_on=False,
            zorder=2,
        )
        if failed:
            low = ax.get_xaxis_transform()
            ax.plot([values[n] for n in failed], [0] * len(failed), "x", color="0.5", markersize=5, transform=low, clip_on=False)
        ax.plot(values[best], fitness[best], "*", color="#e07b00", markersize=14, markeredgecolor="white", clip_on=False)
        if bounds.log:
            ax.set_xscale("log")
            ax.minorticks_off()
        else:
            ax.locator_params(axis="x", nbins=3)
        ax.set_xlim(min(bounds.low, *values), max(bounds.high, *values))
        ax.set_title(f"{name} {values[best]:g}", fontsize=10)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.93")
        ax.set_axisbelow(True)
    for ax in panels[:, 0]:
        ax.set_ylabel("fitness", fontsize=9)
    count = f", {len(failed)} failed (×)" if failed else ""
    figure.suptitle(f"{counted(len(rows), 'trial')}{count}; best: trial {best}, fitness {fitness[best]:g} (★)", fontsize=11)
    return figure
