"""Simulated studies with a known truth, thousands at a time: seeds, pairing and images vary as they do in trainings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from utils.compare.intervals import familywise_p
from utils.compare.spread import joint_error, seed_variance

Floats = NDArray[np.float64]
IMAGES = 100


def draw(
    random: np.random.Generator,
    studies: int,
    variants: int,
    seeds: int,
    *,
    sd: float = 0.5,
    pairing: float = 0.5,
    gain: float = 0.0,
    heavy: bool = False,
    spread: str = "",
    image_sd: float = 0.21,
) -> tuple[Floats, Floats]:
    """Draw studies, in points of AP.

    Args:
        sd: of an arm's AP over seeds. pairing: correlation of the arms of a seed.
        gain: of the last variant; the others have no effect.
        heavy: t with 3 degrees of freedom instead of normal.
        spread: "lognormal" (arms of unequal variance), "arm" or "baseline" (that one has 4 times the standard deviation), or "diverged"
            (one run of the first variant loses 20 points).
        image_sd: standard error of a difference over images; half of its variance is the baseline's.

    Returns:
        (n, V + 1, S) AP, the baseline first, and (n, V) estimated variances over images.
    """
    noise = random.standard_t(3, (studies, variants + 1, seeds)) / 3**0.5 if heavy else random.normal(size=(studies, variants + 1, seeds))
    scale = np.exp(random.normal(0, 0.5, (studies, variants + 1))) if spread == "lognormal" else np.ones((studies, variants + 1))
    if spread in ("arm", "baseline"):
        scale[:, int(spread == "arm")] = 4  # of variant 1, or of the baseline
    values = sd * (1 - pairing) ** 0.5 * scale[..., None] * noise + sd * pairing**0.5 * random.normal(size=(studies, 1, seeds))
    values += random.normal(0, image_sd / 2**0.5, (studies, variants + 1, 1))
    values[:, -1] += gain
    if spread == "diverged":
        values[:, 1, 0] -= 20
    return values, image_sd**2 * random.chisquare(IMAGES - 1, (studies, variants)) / (IMAGES - 1)


def claims(values: Floats, images: Floats, alpha: float = 0.05, count: int = 0) -> NDArray[np.bool_]:
    """(n, V) which variants are called better or worse at level `alpha`, adjusted for `count` of them; for all by default."""
    shared = images.mean(-1, keepdims=True) / 2
    error = joint_error(seed_variance(values), values.shape[-1], images, shared, IMAGES)
    t = np.abs((values[:, 1:] - values[:, :1]).mean(-1)) / np.sqrt(error.variance)
    count = count or images.shape[1]
    single = 2 * stats.t.sf(t, error.df)
    out = np.asarray(count * single < alpha)  # Bonferroni: the adjusted p lies between p and count * p
    open_ = (single < alpha) & ~out
    out[open_] = familywise_p(t[open_], error.df[open_], error.correlation[open_], count) < alpha
    return out


def false_claims(random: np.random.Generator, studies: int, variants: int, seeds: int, **settings: Any) -> float:
    """The share of studies without any effect in which some variant is called better or worse."""
    return float(claims(*draw(random, studies, variants, seeds, **settings)).any(1).mean())


def power(random: np.random.Generator, studies: int, variants: int, seeds: int, **settings: Any) -> float:
    """The share of studies in which the last variant's gain is found."""
    return float(claims(*draw(random, studies, variants, seeds, **settings))[:, -1].mean())
