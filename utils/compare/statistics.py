"""How certain a difference in AP is, for two sources of variance, seeds and images, and the verdict that follows.

Differences are variant minus baseline, with AP in 0..1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from utils.compare.intervals import Interval, bootstrap, combine, holm, minimum_detectable_effect, paired_t
from utils.compare.match_store import StoredMatches
from utils.compare.resampled_ap import RankedDetections, Scores, average_precision, mean_ignoring_nan

BETTER = "better"
WORSE = "worse"
UNDECIDED = "not distinguishable"
NO_VERDICT = "no verdict"
FIGURES = tuple(f.name for f in dataclasses.fields(Scores) if f.name != "per_class")


@dataclasses.dataclass(frozen=True, slots=True)
class VariantRuns:
    """The finished runs of one variant.

    Attributes:
        matches: by seed, a function that loads them.
        protocol: by seed, what must be the same in all compared runs, by name (such as "data", "code", "torch").
    """

    name: str
    matches: Mapping[int, Callable[[], StoredMatches]]
    protocol: Mapping[int, Mapping[str, str]]

    def measured(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """The seeds among `seeds` with matches."""
        return tuple(s for s in seeds if s in self.matches)


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A variant against the baseline. Intervals that cannot be computed, and what depends on them, are None (with a single seed, all).

    Attributes:
        name, baseline: the two variants.
        seeds: those finished in both.
        difference: mean of the paired differences in AP; NaN without a common seed.
        over_seeds: 95 % CI by Student's t over the paired differences: would other seeds give the same result on these images?
        over_images: 95 % CI by bootstrap over images of the mean difference: would other images give the same result for these runs?
        figures: the t intervals of the `FIGURES`.
        class_seeds, class_images: both intervals of each class's AP, in the order of the classes.
        p: two-sided, the largest of those for seeds, images and both combined. p_holm: adjusted for the number of variants.
        p_better: posterior probability that the variant is better, given both sources of variance and a flat prior.
        smallest_visible: minimum detectable effect (80 % power) of this study, before Holm's adjustment.
        verdict: "better", "worse", "not distinguishable" or "no verdict". reason: why, in a sentence.
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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """A variant's scores by seed, and by seed (resamples, 1 + nc) AP over resampled images: the mean over classes, then each class."""

    name: str
    scores: Mapping[int, Scores]
    resampled: Mapping[int, NDArray[np.float64]]


def compare_variants(
    baseline: VariantRuns, variants: Sequence[VariantRuns], seeds: Sequence[int], *, resamples: int = 1000, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare each variant with the baseline; return the comparisons in the order given.

    Args:
        seeds: the planned ones; a variant in which one is missing gets no verdict.
        resamples: number of bootstrap resamples of the images, the same for all runs; they depend on `seed`.
    """
    given = (baseline, *variants)
    reference = next((runs.matches[s]() for runs in given for s in runs.measured(seeds)), None)
    images = len(reference.images) if reference else 0
    random, shares = np.random.default_rng(seed), np.full(images, 1 / max(images, 1))
    weights = random.multinomial(images, shares, size=resamples) if images else np.zeros((0, 0), np.int64)
    measured_variants, faults = [], []
    for runs in given:
        measured, mismatched = _measure(runs, seeds, reference, weights)
        measured_variants.append(measured)
        faults.append([*(f"seed {s} of {runs.name} is missing" for s in seeds if s not in runs.measured(seeds)), *mismatched])
    if len(seeds) < 2:
        faults[0].append("a single seed says nothing about the variance of training; use at least two, better three")
    raw = [_compare(measured_variants[0], runs, reference) for runs in measured_variants[1:]]
    adjusted = holm([c.p for c in raw])
    comparisons = []
    for comparison, p_holm, runs, own in zip(raw, adjusted, variants, faults[1:], strict=True):
        why = [*faults[0], *own, *_differences(baseline, runs, seeds)]
        words, reason = verdict(comparison.over_seeds, comparison.over_images, p_holm, variants=len(variants), faults=why)
        comparisons.append(dataclasses.replace(comparison, p_holm=p_holm, verdict=words, reason=reason))
    return tuple(comparisons)


def verdict(
    over_seeds: Interval | None, over_images: Interval | None, p_holm: float | None, *, variants: int = 1, faults: Sequence[str] = ()
) -> tuple[str, str]:
    """Decide the verdict, and say why.

    "better" and "worse" need both intervals on the same side of zero and an adjusted p of at most 0.05. With `faults` there is no verdict.
    """
    if faults:
        return NO_VERDICT, "; ".join(faults)
    if over_seeds is None or over_images is None or p_holm is None:
        return NO_VERDICT, "AP is undefined: it needs at least two images with objects"
    if over_seeds.mean == over_seeds.sd == over_images.sd == 0:
        return UNDECIDED, "both have exactly the same AP"
    doubts = [
        f"the 95 % CI over {source} contains zero ({_points(interval.low)} to {_points(interval.high)} points of AP)"
        for source, interval in (("seeds", over_seeds), ("images", over_images))
        if interval.low <= 0 <= interval.high
    ]
    if not doubts and p_holm > 0.05:
        among = f" adjusted for {variants} variants" if variants > 1 else ""
        doubts = [f"the variance over seeds and images combined can explain this difference (p{among} = {p_holm:.2g})"]
    if doubts:
        return UNDECIDED, "; ".join(doubts)
    intervals = (
        f"seeds {_points(over_seeds.low)} to {_points(over_seeds.high)}, images {_points(over_images.low)} to {_points(over_images.high)}"
    )
    return (BETTER if over_seeds.mean > 0 else WORSE), f"both 95 % CIs are on the same side of zero ({intervals} points of AP)"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "\u2212")


def _measure(
    runs: VariantRuns, seeds: Sequence[int], reference: StoredMatches | None, weights: NDArray[np.int64]
) -> tuple[_Measured, list[str]]:
    """Measure the runs of a variant; those on other images or annotations than `reference` are left out and named."""
    scores, resampled, mismatched = {}, {}, []
    for s in runs.measured(seeds):
        matches = runs.matches[s]()
        if reference is None or not matches.same_ground_truth(reference):
            mismatched.append(f"seed {s} of {runs.name} was measured on other images or annotations")
            continue
        scores[s] = average_precision(matches)
        table = RankedDetections(matches).average_precision(weights)
        resampled[s] = np.column_stack((mean_ignoring_nan(table.reshape(len(table), -1)), table.mean(2)))
    return _Measured(runs.name, scores, resampled), mismatched


def _compare(baseline: _Measured, runs: _Measured, reference: StoredMatches | None) -> Comparison:
    """Compute everything except Holm's adjustment and the verdict."""
    images, nc = (len(reference.images), len(reference.names)) if reference else (0, 0)
    seeds = tuple(s for s in runs.scores if s in baseline.scores)
    pairs = [(runs.scores[s], baseline.scores[s]) for s in seeds]
    figures = {name: paired_t([getattr(a, name) - getattr(b, name) for a, b in pairs]) for name in FIGURES}
    classes = np.array([a.per_class - b.per_class for a, b in pairs]).reshape(len(seeds), nc)
    observed = float(np.mean([a.ap - b.ap for a, b in pairs])) if pairs else math.nan
    over_images: Interval | None = None
    class_images: list[Interval | None] = [None] * nc
    if len(seeds) > 1:
        resampled = np.mean([runs.resampled[s] - baseline.resampled[s] for s in seeds], axis=0)
        over_images = bootstrap(observed, resampled[:, 0], images)
        class_images = [bootstrap(d, r, images) for d, r in zip(classes.mean(0).tolist(), resampled[:, 1:].T, strict=True)]
    over_seeds = figures["ap"]
    joint = combine(over_seeds, over_images) if over_seeds and over_images else None
    return Comparison(
        name=runs.name,
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


def _differences(baseline: VariantRuns, variant: VariantRuns, seeds: Sequence[int]) -> Iterator[str]:
    """What is not the same in all runs of both variants, and where it first differs."""
    runs = [(f"{v.name}, seed {s}", v.protocol.get(s, {})) for v in (baseline, variant) for s in v.measured(seeds)]
    for key in sorted({key for _, protocol in runs for key in protocol}):
        first = runs[0][1].get(key, "unknown")
        for where, protocol in runs[1:]:
            if (value := protocol.get(key, "unknown")) != first:
                what = "the version of Attune's code" if key == "code" else key
                yield f"{what} differs: {first} ({runs[0][0]}), {value} ({where})"
                break
