"""The interval of a difference in AP over seeds and images together, simultaneous over the variants of a study.

Student's t with Dunnett's critical value: differences from one baseline are positively correlated. Dunnett (1955), "A multiple comparison
procedure for comparing several treatments with a control", https://doi.org/10.1080/01621459.1955.10501294.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from utils.compare.spread import joint_error, seed_variance

ALPHA = 0.05
POWER = 0.8
_MAX_DF = 2000.0  # above this the t distribution is the normal one for every practical purpose
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_QUANTILES = ((_NODES + 1) / 2) ** 3  # of chi-square: the cube places many nodes near zero, where a t statistic becomes large
_QUANTILE_WEIGHTS = _WEIGHTS / 2 * 3 * ((_NODES + 1) / 2) ** 2
_NORMAL, _NORMAL_WEIGHTS = np.polynomial.hermite_e.hermegauss(32)


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A difference in AP (0..1) with its 95 % CI over seeds and images together.

    Attributes:
        mean: the observed difference, averaged over the seeds.
        low, high: the confidence interval.
        p: two-sided; below 0.05 exactly where the interval does not contain zero.
        error_seeds, error_images: standard error from either source; their squares add to that of the difference.
        df: degrees of freedom.
    """

    mean: float
    low: float
    high: float
    p: float
    error_seeds: float
    error_images: float
    df: float


def familywise_p(t: NDArray[np.float64], df: NDArray[np.float64], correlation: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The probability that the largest of `count` absolute t statistics exceeds `t` if no variant has an effect.

    Args:
        t, df, correlation: (k,) statistics >= 0, their degrees of freedom, and the correlation of the differences (0 <= c < 1).
        count: number of variants; with 1 it is the two-sided p-value of Student's t.
    """
    from scipy import special, stats

    if count == 1:
        return np.asarray(2 * stats.t.sf(t, df), np.float64)
    df = np.minimum(df, _MAX_DF)[:, None]
    scale = np.sqrt(2 * special.gammaincinv(df / 2, _QUANTILES) / df)
    shared = np.sqrt(correlation)[:, None, None] * _NORMAL
    own, limit = np.sqrt(1 - correlation)[:, None, None], (t[:, None] * scale)[..., None]
    inside = (special.ndtr((limit + shared) / own) - special.ndtr((shared - limit) / own)) ** count
    p = 1 - inside @ (_NORMAL_WEIGHTS / _NORMAL_WEIGHTS.sum()) @ _QUANTILE_WEIGHTS
    single = 2 * stats.t.sf(t, df[:, 0])
    return np.asarray(np.clip(p, single, np.minimum(count * single, 1)), np.float64)  # the bounds hold; quadrature may miss the smallest p


def critical_value(alpha: float, df: float, correlation: float, count: int) -> float:
    """The t above which `familywise_p` is below `alpha`."""
    from scipy import optimize, stats

    low, high = (float(stats.t.isf(alpha / 2 / k, df)) for k in (1, count))
    if count == 1:
        return low

    def excess(t: float) -> float:
        return float(familywise_p(np.array([t]), np.array([df]), np.array([correlation]), count)[0]) - alpha

    return float(optimize.brentq(excess, 0.99 * low, 1.01 * high, xtol=1e-6))


def detectable_effect(error: float, df: float, critical: float) -> float:
    """Minimum detectable effect: the true difference whose t statistic exceeds `critical` with 80 % probability.

    Args:
        error: standard error of the difference.
    """
    from scipy import optimize, stats

    def missing_power(effect: float) -> float:
        with np.errstate(divide="ignore"):  # of SciPy before 1.14, which clips the result itself
            return float(stats.nct.sf(critical, df, effect) - POWER)

    return error * float(optimize.brentq(missing_power, 0, 5 * critical + 10))


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A difference tested with those of its family.

    Attributes:
        interval: its confidence interval.
        critical: the t statistic above which it is significant.
        unequal: whether the baseline, and whether the variant, vary more over the seeds than the other arms.
        identical: whether the figure is the same in every seed.
    """

    interval: Interval
    critical: float
    unequal: tuple[bool, bool]
    identical: bool

    @property
    def detectable(self) -> float:
        """The minimum detectable effect."""
        return detectable_effect(math.hypot(self.interval.error_seeds, self.interval.error_images), self.interval.df, self.critical)


def tested(
    mean: float,
    errors: tuple[float, float],
    df: float,
    correlation: float,
    family: tuple[int, float],
    *,
    unequal: tuple[bool, bool],
    identical: bool,
) -> Difference | None:
    """Test a mean difference; None if nothing varies although it is not zero.

    Args:
        errors: its standard errors over seeds and over images.
        df, correlation: degrees of freedom, and the correlation of the differences of its family.
        family: number of differences to adjust for, and the level of all together.
        unequal, identical: see `Difference`.
    """
    (count, alpha), size = family, math.hypot(*errors)
    if size == 0 and mean != 0:
        return None
    critical = critical_value(alpha, df, correlation, count)
    t = abs(mean) / size if size else 0.0
    p = float(familywise_p(np.array([t]), np.array([df]), np.array([correlation]), count)[0]) * ALPHA / alpha
    return Difference(
        Interval(mean, mean - critical * size, mean + critical * size, min(p, 1.0), *errors, df), critical, unequal, identical
    )


def independent_runs(count: int, sharing: float) -> float:
    """How many independent runs tell as much of a mean as `count` that share training images.

    Args:
        sharing: number of measured images over that of training images, as Nadeau and Bengio (2003) correct the variance of resampled
            splits, https://doi.org/10.1023/A:1024068626366: the mean of n runs has the variance (1 / n + sharing) of one. 0 without folds.
    """
    return 1 / (1 / count + sharing)


def family_intervals(
    values: NDArray[np.float64],
    resampled: NDArray[np.float64],
    units: int,
    count: int,
    alpha: float,
    *,
    related: bool = True,
    sharing: float = 0.0,
) -> list[Difference | None]:
    """The interval of each variant's difference from the baseline, simultaneous over `count` variants at level `alpha`.

    Args:
        values: (V + 1, S) figure of each arm, the baseline first, and seed; S >= 2.
        resampled: (V, R) mean difference over resampled images. Resamples without the figure, as without objects of a class, are left out.
        units: number of images, or of groups, that were resampled.
        related: whether all `count` differences are from this baseline; else they count as independent.
        sharing: see `independent_runs`.

    Returns:
        None where the figure is undefined, or nothing varies although the difference is not zero.
    """
    known = np.isfinite(resampled).all(0)
    if units < 2 or known.sum() < 2 or not np.isfinite(values).all():
        return [None] * len(resampled)
    covariance = np.atleast_2d(np.cov(resampled[:, known]))
    images = np.diag(covariance)
    pairs = ~np.eye(len(images), dtype=bool)
    shared = max(float(covariance[pairs].mean()), 0.0) if pairs.any() else 0.0
    seeds = seed_variance(values)
    runs = independent_runs(values.shape[1], sharing)
    error = joint_error(seeds, runs, images, np.array([shared]), units)
    means = (values[1:] - values[0]).mean(1)
    out: list[Difference | None] = []
    for k, mean in enumerate(means.tolist()):
        df, correlation = float(error.df[k]), float(error.correlation[k]) * related
        parts = math.sqrt(seeds.variance[k] / runs), math.sqrt(images[k])
        unequal = bool(seeds.unequal[0]), bool(seeds.unequal[k + 1])
        identical = bool((values[k + 1] == values[0]).all())
        out.append(tested(mean, parts, df, correlation, (count, alpha), unequal=unequal, identical=identical))
    return out
