"""What the curves of a run say about it: too short, overfitting, or its best epoch better than its last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

AP = "metrics/mAP_0.5:0.95"
"""Column of results.csv."""
_LEVEL = 0.01  # of each one-sided test: a run is looked at with three
_WINDOW = 5  # epochs at least: fewer give no slope with a standard error
_MIN_RISE = 0.002  # AP gained in another such window, below which a rise is of no use


def findings(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """What the rows of a results.csv show, one sentence each; empty if nothing, or for fewer than ten validated epochs."""
    rows = [row for row in rows if math.isfinite(row.get(AP, math.nan))]
    if sum(row[AP] > 0 for row in rows) < 2 * _WINDOW:
        return []
    epochs, ap = [int(row["epoch"]) for row in rows], np.array([row[AP] for row in rows])
    out = []
    if slope := still_rising(ap):
        out.append(f"AP still rises by {100 * slope:.2f} points an epoch at the end: train for more epochs")
    train, val = (
        np.array([sum(row[f"{part}/{term}_loss"] for term in ("box", "obj", "cls")) for row in rows]) for part in ("train", "val")
    )
    since = overfitting(train, val)
    if since is not None:
        out.append(
            f"overfitting since epoch {epochs[since]}: the validation loss rises, to {val[-1]:.3g} from {val[since]:.3g}, while the "
            "training loss falls; more data or augmentation, or fewer epochs"
        )
    if drop := best_above_last(ap):
        out.append(f"the last epochs are {100 * drop:.1f} points of AP below those around the best, epoch {epochs[int(ap.argmax())]}")
    return out


def still_rising(ap: Sequence[float] | NDArray[np.float64]) -> float:
    """Slope of AP per epoch over the last tenth of the run, at least five epochs; 0 where it is flat, falls, or may be noise."""
    window = max(len(ap) // 10, _WINDOW)
    if len(ap) < 2 * _WINDOW:
        return 0.0
    slope = _slope(np.asarray(ap)[-window:])
    return slope if slope * window > _MIN_RISE else 0.0


def overfitting(train: NDArray[np.float64], val: NDArray[np.float64]) -> int | None:
    """The epoch with the lowest validation loss (a mean over three), from which on it rises while the training loss falls; else None."""
    smooth = np.convolve(val, np.ones(3) / 3, mode="valid")
    lowest = int(smooth.argmin()) + 1
    if len(val) - lowest < max(len(val) // 5, _WINDOW):
        return None
    return lowest if _slope(val[lowest:]) > 0 > -_slope(-train[lowest:]) else None


def best_above_last(ap: NDArray[np.float64]) -> float:
    """How far the five epochs around the best one lie above the last five in the mean; 0 where that may be noise (Welch's test)."""
    best = int(ap.argmax())
    around, last = ap[max(best - _WINDOW // 2, 0) : best + _WINDOW // 2 + 1], ap[-_WINDOW:]
    if best + _WINDOW // 2 >= len(ap) - _WINDOW or np.ptp(around) == np.ptp(last) == 0:
        return 0.0
    from scipy import stats  # a second of imports, which no training waits for at its start

    p = stats.ttest_ind(around, last, equal_var=False, alternative="greater").pvalue
    return float(around.mean() - last.mean()) if p < _LEVEL else 0.0


def _slope(values: NDArray[np.float64]) -> float:
    """Of the least-squares line if it is certainly positive, else 0."""
    from scipy import stats

    fit = stats.linregress(np.arange(len(values)), values, alternative="greater")
    return float(fit.slope) if fit.pvalue < _LEVEL else 0.0
