"""The variance of the differences of a study: over seeds, estimated from all arms together, and over images."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

UNEQUAL = 0.02
"""Level of the F test by which an arm's variance is called larger than that of the others."""
_DIVERGED, _DIVERGED_LEVEL = 50.0, 0.001  # ratio of variances and level from which an arm is left out of the common variance


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SeedVariance:
    """Variance of the paired differences of V variants from a baseline, from one seed to another.

    Attributes:
        variance: (..., V).
        df: (..., V) degrees of freedom of each.
        baseline: (..., 1) the baseline's part of it, which all differences share.
        unequal: (..., V + 1) arms, the baseline first, whose variance is larger than that of the others.
    """

    variance: NDArray[np.float64]
    df: NDArray[np.float64]
    baseline: NDArray[np.float64]
    unequal: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ArmVariance:
    """Variance of each arm from one seed to another, without what all arms share: arrays (..., A).

    Attributes:
        variance: of each arm.
        df: its degrees of freedom. Arms that are not `unequal` share one estimate.
        unequal: whose variance is larger than that of the others.
        common: (..., 1) degrees of freedom of the shared estimate.
    """

    variance: NDArray[np.float64]
    df: NDArray[np.float64]
    unequal: NDArray[np.bool_]
    common: NDArray[np.float64]


def arm_variance(values: NDArray[np.float64]) -> ArmVariance:
    """Estimate the variance of each arm from all of them.

    Arms that differ by their mean and by chance alone are a two-way layout of arms and seeds: its residual variance has
    V (S - 1) degrees of freedom, where the paired differences of one variant have S - 1. An arm whose residuals vary more than those of
    the other arms (F test, level `UNEQUAL`) has its own variance, with S - 1 degrees of freedom; the common one still contains it, which
    is conservative for the others, unless its variance is beyond all measure, as after a diverged run. Copies of another
    arm would make the common variance too small and are left out.

    Args:
        values: (..., A, S) AP by arm and seed; S >= 2.
    """
    from scipy import stats

    seeds = values.shape[-1]
    deviation = values - values.mean(-1, keepdims=True)
    near = np.abs(deviation[..., :, None, :] - deviation[..., None, :, :]).max(-1) <= 1e-12 * np.abs(values).max(initial=1.0)
    kept = ~np.tril(near, -1).any(-1)
    kept |= kept.sum(-1, keepdims=True) < 2  # where all are copies of the baseline, the variance is zero
    common, own, df = _residual(deviation, kept)
    others = np.maximum(df - (seeds - 1), 0)
    rest = np.where(others > 0, (common * df - own * (seeds - 1)) / np.maximum(others, 1), np.inf)
    ratio = np.where(kept, own / np.maximum(rest, 1e-300), 0)
    p = stats.f.sf(ratio, seeds - 1, np.maximum(others, 1))
    unequal = p < UNEQUAL
    clean = kept & ~(unequal & (p < _DIVERGED_LEVEL) & (ratio > _DIVERGED))
    common, _, df = _residual(deviation, np.where(clean.sum(-1, keepdims=True) > 1, clean, kept))
    part = np.where(unequal, np.maximum(own, common), common)
    return ArmVariance(part, np.where(unequal, seeds - 1.0, df), unequal, df)


def seed_variance(values: NDArray[np.float64]) -> SeedVariance:
    """Estimate the variance of each difference from the variances of all arms.

    Args:
        values: (..., V + 1, S) AP by arm, the baseline first, and seed; S >= 2.
    """
    arms = arm_variance(values)
    base, part, unequal = arms.variance[..., :1], arms.variance[..., 1:], arms.unequal
    variance = base + part
    spread = base**2 / arms.df[..., :1] + part**2 / arms.df[..., 1:]
    mixed = np.divide(variance**2, spread, out=np.full_like(variance, values.shape[-1] - 1.0), where=spread > 0)
    either = unequal[..., :1] | unequal[..., 1:]
    return SeedVariance(variance, np.where(either, mixed, arms.common), base, unequal)


def _residual(deviation: NDArray[np.float64], kept: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """The residual variance of the kept arms (..., 1), that of each arm against the mean of the others (..., A), and the first's df."""
    count, seeds = kept.sum(-1, keepdims=True), deviation.shape[-1]
    mean = (deviation * kept[..., None]).sum(-2, keepdims=True) / count[..., None]
    squares = ((deviation - mean) ** 2).sum(-1)
    df = (count - 1.0) * (seeds - 1)
    return (squares * kept).sum(-1, keepdims=True) / df, squares * count / np.maximum(count - 1, 1) / (seeds - 1), df


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class JointError:
    """Standard error of each difference for seeds and images together: arrays (..., V).

    Attributes:
        variance: of the difference averaged over the seeds.
        df: its degrees of freedom.
        correlation: of the differences, from the baseline that they share; 0 to 0.95.
    """

    variance: NDArray[np.float64]
    df: NDArray[np.float64]
    correlation: NDArray[np.float64]


def joint_error(
    seeds: SeedVariance, count: float, images: NDArray[np.float64], shared_images: NDArray[np.float64], units: int
) -> JointError:
    """Add the variances over seeds and images.

    Degrees of freedom by Satterthwaite (1946). A variance estimated with few degrees of freedom that is small by chance would also claim
    many; counting it (1 + 1 / df)^3 times in their formula, found by simulation, keeps coverage at 95 % even with two seeds.

    Args:
        count: number of seeds, or of independent runs that would tell as much.
        images: (..., V) variance of each mean difference over resampled images.
        shared_images: (..., 1) what the differences share of it: their mean covariance, >= 0.
        units: number of images, or of groups of images, that were resampled.
    """
    over_seeds = seeds.variance / count
    variance = over_seeds + images
    weighted = over_seeds * (1 + 1 / seeds.df) ** 3
    spread = weighted**2 / seeds.df + images**2 / (units - 1)
    df = np.divide((weighted + images) ** 2, spread, out=np.full_like(variance, max(count - 1.0, 1.0)), where=spread > 0)
    shared = seeds.baseline / count + shared_images
    correlation = np.divide(shared, variance, out=np.full_like(variance, 0.5), where=variance > 0)
    return JointError(variance, df, np.minimum(correlation, 0.95))
