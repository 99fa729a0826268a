"""How sure a difference is: two sources of noise, seeds and images, kept apart; what the verdict may rest on.

Differences are variant minus baseline, in AP as a fraction of 1. Everything here is agnostic of which epoch the matches come from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from utils.compare.intervals import Interval, bootstrap, combine, holm, minimum_detectable_effect, paired_t
from utils.compare.match_store import StoredMatches
from utils.compare.resampled_ap import RankedDetections, Scores, average_precision, mean_ignoring_nan

__all__ = [
    "BETTER",
    "NO_VERDICT",
    "UNDECIDED",
    "WORSE",
    "Comparison",
    "Interval",
    "MeanAndStd",
    "Result",
    "Summary",
    "VariantRuns",
    "compare_variants",
    "verdict",
]

BETTER = "better"
WORSE = "worse"
UNDECIDED = "not distinguishable"
NO_VERDICT = "no verdict"

FIGURES = ("ap", "ap50", "ap75", "small", "medium", "large")


@dataclasses.dataclass(frozen=True, slots=True)
class MeanAndStd:
    """Mean and standard deviation (n - 1) of a figure over n seeds; NaN where it has no value, and the deviation below two seeds too."""

    mean: float
    sd: float
    n: int


@dataclasses.dataclass(frozen=True, slots=True)
class VariantRuns:
    """What is known of one variant.

    Attributes:
        matches: of its finished runs, by seed; each is looked up once, so a mapping that loads from files will do.
        protocol: by seed, what must be the same in all runs that are compared: its name (such as "data", "code", "torch") and its value.
    """

    name: str
    matches: Mapping[int, StoredMatches]
    protocol: Mapping[int, Mapping[str, str]]

    def measured(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """Those of `seeds` that there are matches for; none is looked up."""
        return tuple(s for s in seeds if s in list(self.matches))


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """An arm's figures over the seeds: "ap", "ap50", "ap75", "small", "medium", "large"; and AP per class, in the order of the classes."""

    name: str
    seeds: tuple[int, ...]
    figures: Mapping[str, MeanAndStd]
    per_class: tuple[MeanAndStd, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A variant against the baseline. Intervals are None where they cannot be had, and so is what rests on them (with a single seed, all).

    Attributes:
        name, baseline: the two arms.
        seeds: those both have.
        difference: in AP, the mean of the paired differences; NaN without a common seed.
        over_seeds: Student-t over the paired differences: would other seeds say the same on these images?
        over_images: bootstrap over images of the seed-averaged difference: would other images say the same of these runs?
        figures: the t intervals of "ap", "ap50", "ap75", "small", "medium", "large".
        class_seeds, class_images: both intervals of each class's AP, in the order of the classes.
        p: two-sided, the largest of those against seeds, images, and both together. p_holm: adjusted for the number of variants.
        p_better: the probability that the variant is the better one, given both sources of noise and no prior opinion.
        smallest_visible: the true difference which this study would have told from none in 4 of 5 repetitions, before Holm's adjustment.
        verdict: "better", "worse", "not distinguishable" or "no verdict". reason: why, as a sentence.
    """

    name: str
    baseline: str
    seeds: tuple[int, ...]
    difference: float
    over_seeds: Interval | None
    over_images: Interval | None
    figures: Mapping[str, Interval | None]
    class_seeds: tuple[Interval | None, ...]
    class_images: tuple[Interval | None, ...]
    p: float | None
    p_holm: float | None
    p_better: float | None
    smallest_visible: float | None
    verdict: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """Summaries of all arms, the baseline first, and a comparison for each variant, in the order given."""

    arms: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Arm:
    """An arm measured: by seed its scores, and (resamples, 1 + nc) AP over all classes and of each over resampled images."""

    name: str
    scores: Mapping[int, Scores]
    resampled: Mapping[int, NDArray[np.float64]]


def compare_variants(
    baseline: VariantRuns, variants: Sequence[VariantRuns], seeds: Sequence[int], *, resamples: int = 1000, seed: int = 0
) -> Result:
    """Compare each variant with the baseline.

    Args:
        seeds: those of the plan: an arm without one of them gets no verdict.
        resamples: of the images, the same for all runs; `seed` decides them.
    """
    given = (baseline, *variants)
    truth = next((arm.matches[s] for arm in given for s in arm.measured(seeds)), None)
    images = len(truth.images) if truth else 0
    weights = (
        np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
        if images
        else np.zeros((0, 0), np.int64)
    )
    arms, faults = [], []
    for arm in given:
        measured, foreign = _measure(arm, seeds, truth, weights)
        arms.append(measured)
        faults.append([*(f"seed {s} of {arm.name} is missing" for s in seeds if s not in arm.measured(seeds)), *foreign])
    if len(seeds) < 2:
        faults[0].append("a single seed says nothing about the noise of training: give at least two, better three")
    raw = [_compare(arms[0], arm, truth) for arm in arms[1:]]
    adjusted = holm([c.p for c in raw])
    comparisons = []
    for comparison, p_holm, arm, own in zip(raw, adjusted, variants, faults[1:], strict=True):
        why = [*faults[0], *own, *_differences(baseline, arm, seeds)]
        words, reason = verdict(comparison.over_seeds, comparison.over_images, p_holm, variants=len(variants), faults=why)
        comparisons.append(dataclasses.replace(comparison, p_holm=p_holm, verdict=words, reason=reason))
    return Result(tuple(_summary(arm) for arm in arms), tuple(comparisons))


def verdict(
    over_seeds: Interval | None, over_images: Interval | None, p_holm: float | None, *, variants: int = 1, faults: Sequence[str] = ()
) -> tuple[str, str]:
    """Say what may be said: the verdict, and why.

    "better" and "worse" take both intervals on one side of zero and an adjusted p of at most 0.05. `faults` forbid both.
    """
    if faults:
        return NO_VERDICT, "; ".join(faults)
    if over_seeds is None or over_images is None or p_holm is None:
        return NO_VERDICT, "AP has no value here: it takes at least two images, and objects in them"
    if over_seeds.mean == over_seeds.sd == over_images.sd == 0:
        return UNDECIDED, "both measured exactly the same"
    doubts = [
        f"{source} alone could make this difference ({_points(interval.low)} to {_points(interval.high)} points of AP)"
        for source, interval in (("other seeds", over_seeds), ("other images", over_images))
        if interval.low <= 0 <= interval.high
    ]
    if not doubts and p_holm > 0.05:
        among = f", adjusted for {variants} variants," if variants > 1 else ""
        doubts = [f"seeds and images together could make this difference (p{among} is {p_holm:.2g})"]
    if doubts:
        return UNDECIDED, "; ".join(doubts)
    seen = (
        f"seeds {_points(over_seeds.low)} to {_points(over_seeds.high)}, images {_points(over_images.low)} to {_points(over_images.high)}"
    )
    return (BETTER if over_seeds.mean > 0 else WORSE), f"both 95 % intervals lie on one side of zero ({seen} points of AP)"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "\u2212")


def _measure(arm: VariantRuns, seeds: Sequence[int], truth: StoredMatches | None, weights: NDArray[np.int64]) -> tuple[_Arm, list[str]]:
    """Measure the runs of an arm; those on other images or objects than `truth` are left out and named."""
    scores, resampled, foreign = {}, {}, []
    for s in arm.measured(seeds):
        matches = arm.matches[s]
        if truth is None or not matches.same_ground_truth(truth):
            foreign.append(f"seed {s} of {arm.name} was measured on other images or objects")
            continue
        scores[s] = average_precision(matches)
        table = RankedDetections(matches).average_precision(weights)
        resampled[s] = np.column_stack((mean_ignoring_nan(table.reshape(len(table), -1)), table.mean(2)))
    return _Arm(arm.name, scores, resampled), foreign


def _compare(baseline: _Arm, arm: _Arm, truth: StoredMatches | None) -> Comparison:
    """Everything but Holm's adjustment and the verdict."""
    images, nc = (len(truth.images), len(truth.names)) if truth else (0, 0)
    seeds = tuple(s for s in arm.scores if s in baseline.scores)
    pairs = [(arm.scores[s], baseline.scores[s]) for s in seeds]
    figures = {name: paired_t([getattr(a, name) - getattr(b, name) for a, b in pairs]) for name in FIGURES}
    classes = np.array([a.per_class - b.per_class for a, b in pairs]).reshape(len(seeds), nc)
    observed = float(np.mean([a.ap - b.ap for a, b in pairs])) if pairs else math.nan
    over_images: Interval | None = None
    class_images: list[Interval | None] = [None] * nc
    if len(seeds) > 1:
        resampled = np.mean([arm.resampled[s] - baseline.resampled[s] for s in seeds], axis=0)
        over_images = bootstrap(observed, resampled[:, 0], images)
        class_images = [bootstrap(d, r, images) for d, r in zip(classes.mean(0).tolist(), resampled[:, 1:].T, strict=True)]
    over_seeds = figures["ap"]
    joint = combine(over_seeds, over_images) if over_seeds and over_images else None
    return Comparison(
        name=arm.name,
        baseline=baseline.name,
        seeds=seeds,
        difference=observed,
        over_seeds=over_seeds,
        over_images=over_images,
        figures=figures,
        class_seeds=tuple(paired_t(column) for column in classes.T.tolist()),
        class_images=tuple(class_images),
        p=joint.p if joint else None,
        p_holm=None,
        p_better=joint.p_better if joint else None,
        smallest_visible=minimum_detectable_effect(over_seeds, over_images) if over_seeds and over_images else None,
        verdict=NO_VERDICT,
        reason="",
    )


def _differences(baseline: VariantRuns, arm: VariantRuns, seeds: Sequence[int]) -> Iterator[str]:
    """What is not the same in all runs of both arms, and where it first departs."""
    runs = [(f"{a.name}, seed {s}", a.protocol.get(s, {})) for a in (baseline, arm) for s in a.measured(seeds)]
    for key in sorted({key for _, protocol in runs for key in protocol}):
        first = runs[0][1].get(key, "unknown")
        for where, protocol in runs[1:]:
            if (value := protocol.get(key, "unknown")) != first:
                yield f"{key} differs: {first} ({runs[0][0]}), {value} ({where})"
                break


def _summary(arm: _Arm) -> Summary:
    scores = list(arm.scores.values())
    figures = {name: _spread([getattr(s, name) for s in scores]) for name in FIGURES}
    return Summary(arm.name, tuple(arm.scores), figures, tuple(_spread(column) for column in np.array([s.per_class for s in scores]).T))


def _spread(values: Sequence[float] | NDArray[np.float64]) -> MeanAndStd:
    n = len(values)
    return MeanAndStd(float(np.mean(values)) if n else math.nan, float(np.std(values, ddof=1)) if n > 1 else math.nan, n)
