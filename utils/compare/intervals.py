"""Intervals and p-values: Student's t over seeds, the bootstrap over images, both together, and Holm's adjustment."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
POWER = 0.8


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A difference with its 95 % interval against one source of noise, in AP as a fraction of 1.

    Attributes:
        mean: the difference observed.
        low, high: the interval.
        sd: over seeds: of the paired differences (n - 1); over images: of the difference over resamples, which is its standard error.
        n: seeds, or images.
        p: two-sided p-value against this source of noise alone, not adjusted.
    """

    mean: float
    low: float
    high: float
    sd: float
    n: int
    p: float


@dataclasses.dataclass(frozen=True, slots=True)
class CombinedTest:
    """A difference against both sources of noise: its standard error and degrees of freedom, and what they imply.

    Attributes:
        p: two-sided; the largest of three, against seeds, against images, and against both together: each must be small for a claim.
        p_better: the probability that the true difference is positive, with no opinion beforehand.
    """

    error: float
    df: float
    p: float
    p_better: float


def paired_t(differences: Sequence[float]) -> Interval | None:
    """Student's t interval of the mean of paired differences, one a seed; None for fewer than two, or where one has no value."""
    values = np.asarray(differences, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    sd = float(values.std(ddof=1))
    return _around(float(values.mean()), sd / math.sqrt(len(values)), sd, len(values))


def bootstrap(observed: float, resampled: NDArray[np.float64], images: int) -> Interval | None:
    """The interval of a difference whose values over resamples of the images are known.

    Its half-width is their standard deviation times Student's t with one degree of freedom less than there are images: on small sets it
    covers better than the percentiles, and 1000 resamples determine it better. Resamples without a value (NaN) are left out.

    Returns:
        None for fewer than two images or usable resamples, or where the observed difference has no value.
    """
    known = resampled[np.isfinite(resampled)]
    if images < 2 or len(known) < 2 or not math.isfinite(observed):
        return None
    sd = float(known.std(ddof=1))
    return _around(observed, sd, sd, images)


def combine(seeds: Interval, images: Interval) -> CombinedTest:
    """Both sources of noise together: their variances add, with the degrees of freedom of Welch and Satterthwaite.

    What a seed does to some images more than to others is in both parts, so the error is rather too large than too small.
    """
    parts = np.array([seeds.sd**2 / seeds.n, images.sd**2])
    error = math.sqrt(float(parts.sum()))
    spread = float((parts**2 / [seeds.n - 1, images.n - 1]).sum())
    df = error**4 / spread if spread > 0 else float(seeds.n - 1)
    p = max(seeds.p, images.p, _p(seeds.mean, error, df))
    return CombinedTest(error, df, p, 1 - p / 2 if seeds.mean > 0 else p / 2)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment. A test without a result (None) stays so, but counts: it was planned."""
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min((len(ps) - rank) * p, 1.0))
        adjusted[i] = largest
    return adjusted


def mde_over_seeds(sd: float, n: int) -> float:
    """The true difference that a two-sided paired t-test at 5 % finds in 4 of 5 studies of n seeds, `sd` being that of the differences.

    Its noncentral distribution gives it: 3.26 sd with 3 seeds, 1.68 sd with 5.
    """
    return detectable_effect(sd / math.sqrt(n), n - 1)


def minimum_detectable_effect(seeds: Interval, images: Interval) -> float:
    """The true difference that each of the tests behind a verdict, seeds, images and both together, finds in 4 of 5 studies."""
    both = combine(seeds, images)
    return max(mde_over_seeds(seeds.sd, seeds.n), detectable_effect(images.sd, images.n - 1), detectable_effect(both.error, both.df))


def detectable_effect(error: float, df: float) -> float:
    """The true difference found in 4 of 5 studies by a two-sided t-test at 5 %, given its standard error."""
    from scipy import optimize, stats

    critical = stats.t.ppf((1 + LEVEL) / 2, df)

    def lacking(effect: float) -> float:
        with np.errstate(divide="ignore"):  # of SciPy before 1.14, which clips the result itself
            return float(stats.nct.sf(critical, df, effect) - POWER)

    return error * float(optimize.brentq(lacking, 0, 5 * critical + 10))


def _around(mean: float, error: float, sd: float, n: int) -> Interval:
    from scipy import stats

    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Interval(mean, mean - half, mean + half, sd, n, _p(mean, error, n - 1))


def _p(mean: float, error: float, df: float) -> float:
    from scipy import stats

    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, df))
