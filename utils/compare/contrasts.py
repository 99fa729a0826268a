"""Intervals of contrasts: differences between means of several arms, such as the main effect of a factor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utils.compare.intervals import Difference, independent_runs, tested
from utils.compare.spread import SeedVariance, arm_variance, joint_error


def contrast_intervals(
    values: NDArray[np.float64],
    resampled: NDArray[np.float64],
    contrasts: Sequence[Sequence[float]],
    units: int,
    alpha: float,
    sharing: float = 0.0,
) -> list[Difference | None]:
    """The interval of each contrast over seeds and images together, simultaneous over all of them at level `alpha`.

    The variance over seeds is that of a sum of independent parts of the arms; its degrees of freedom follow from Satterthwaite (1946),
    where arms that do not vary more than the others count as one estimate. Contrasts of a full factorial design are orthogonal, so they
    are adjusted for as independent ones (Sidak), which by his inequality is conservative for others.

    Args:
        values: (A, S) figure of each arm and seed; S >= 2.
        resampled: (A, R) its mean over the seeds on resampled images.
        contrasts: (C, A) weight of each arm; the weights of a contrast add to 0.
        units: number of images, or of groups, that were resampled.
        sharing: see `independent_runs`.

    Returns:
        None where the figure is undefined, or nothing varies although the contrast is not zero.
    """
    weights = np.asarray(contrasts, np.float64)
    known = np.isfinite(resampled).all(0)
    if units < 2 or known.sum() < 2 or not np.isfinite(values).all():
        return [None] * len(weights)
    arms, runs = arm_variance(values), independent_runs(values.shape[1], sharing)
    part = weights**2 * arms.variance  # (C, A)
    pooled, own = (part * ~arms.unequal).sum(1), part * arms.unequal
    spread = pooled**2 / arms.common + (own**2 / arms.df).sum(1)
    variance = part.sum(1)
    df = np.divide(variance**2, spread, out=np.full_like(variance, values.shape[1] - 1.0), where=spread > 0)
    images = (weights @ resampled[:, known]).var(1, ddof=1)
    seeds = SeedVariance(variance, df, np.zeros(1), arms.unequal)
    error = joint_error(seeds, runs, images, np.zeros(1), units)
    means, flags = weights @ values, weights.astype(bool) @ arms.unequal
    return [
        tested(
            float(means[k].mean()),
            (float(variance[k] / runs) ** 0.5, float(images[k]) ** 0.5),
            float(error.df[k]),
            0.0,
            (len(weights), alpha),
            unequal=(False, bool(flags[k])),
            identical=bool((means[k] == 0).all()),
        )
        for k in range(len(weights))
    ]
