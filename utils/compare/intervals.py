"""Confidence intervals and p-values: Student's t over seeds, the bootstrap over images, both combined, and Holm's adjustment."""

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
    """A difference in AP (0..1) with its 95 % CI for one source of variance.

    Attributes:
        mean: the observed difference.
        low, high: the confidence interval.
        sd: standard deviation (n - 1); over seeds of the paired differences, over images of the resampled difference (its standard error).
        n: number of seeds or images.
        p: two-sided p-value for this source of variance alone, not adjusted.
    """

    mean: float
    low: float
    high: float
    sd: float
    n: int
    p: float


@dataclasses.dataclass(frozen=True, slots=True)
class CombinedTest:
    """A difference tested for both sources of variance together.

    Attributes:
        error, df: standard error and degrees of freedom.
        p: two-sided; the largest of the three p-values for seeds, for images and for both combined.
        p_better: posterior probability that the true difference is positive, with a flat prior.
    """

    error: float
    df: float
    p: float
    p_better: float


def paired_t(differences: Sequence[float]) -> Interval | None:
    """Student's t interval of the mean of paired differences, one per seed; None for fewer than two, or if one is not finite."""
    values = np.asarray(differences, np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    sd = float(values.std(ddof=1))
    return _t_interval(float(values.mean()), sd / math.sqrt(len(values)), sd, len(values))


def bootstrap(observed: float, resampled: NDArray[np.float64], images: int) -> Interval | None:
    """The interval of a difference from its values over bootstrap resamples of the images.

    Its half-width is their standard deviation times Student's t with n - 1 degrees of freedom for n images: on small datasets its coverage
    is better than that of percentile intervals, and it needs fewer resamples. NaN resamples are left out.

    Returns:
        None for fewer than two images or finite resamples, or if the observed difference is not finite.
    """
    known = resampled[np.isfinite(resampled)]
    if images < 2 or len(known) < 2 or not math.isfinite(observed):
        return None
    sd = float(known.std(ddof=1))
    return _t_interval(observed, sd, sd, images)


def combine(seeds: Interval, images: Interval) -> CombinedTest:
    """Combine both sources of variance: the variances add, with Welch-Satterthwaite degrees of freedom.

    The interaction of seeds and images is contained in both variances, so the standard error is conservative.
    """
    parts = np.array([seeds.sd**2 / seeds.n, images.sd**2])
    error = math.sqrt(float(parts.sum()))
    spread = float((parts**2 / [seeds.n - 1, images.n - 1]).sum())
    df = error**4 / spread if spread > 0 else float(seeds.n - 1)
    p = max(seeds.p, images.p, _p_value(seeds.mean, error, df))
    return CombinedTest(error, df, p, 1 - p / 2 if seeds.mean > 0 else p / 2)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment. A test without a result stays None, but counts towards the number of tests."""
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min((len(ps) - rank) * p, 1.0))
        adjusted[i] = largest
    return adjusted


def mde_over_seeds(sd: float, n: int) -> float:
    """Minimum detectable effect (80 % power) of a two-sided paired t-test at 5 % with n seeds; `sd` is that of the differences.

    It is 3.26 sd with 3 seeds, 1.68 sd with 5.
    """
    return detectable_effect(sd / math.sqrt(n), n - 1)


def minimum_detectable_effect(seeds: Interval, images: Interval) -> float:
    """Minimum detectable effect (80 % power) of the three tests behind a verdict: for seeds, for images and for both combined."""
    both = combine(seeds, images)
    return max(mde_over_seeds(seeds.sd, seeds.n), detectable_effect(images.sd, images.n - 1), detectable_effect(both.error, both.df))


def detectable_effect(error: float, df: float) -> float:
    """Minimum detectable effect (80 % power) of a two-sided t-test at 5 %, given the standard error of the difference."""
    from scipy import optimize, stats

    critical = stats.t.ppf((1 + LEVEL) / 2, df)

    def missing_power(effect: float) -> float:
        with np.errstate(divide="ignore"):  # of SciPy before 1.14, which clips the result itself
            return float(stats.nct.sf(critical, df, effect) - POWER)

    return error * float(optimize.brentq(missing_power, 0, 5 * critical + 10))


def _t_interval(mean: float, error: float, sd: float, n: int) -> Interval:
    from scipy import stats

    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Interval(mean, mean - half, mean + half, sd, n, _p_value(mean, error, n - 1))


def _p_value(mean: float, error: float, df: float) -> float:
    from scipy import stats

    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, df))
