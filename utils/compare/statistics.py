"""How certain a difference in AP is, over seeds and images together, and the verdict that follows.

Differences are variant minus baseline, with AP in 0..1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.compare.error_figures import ERRORS
from utils.compare.intervals import Difference, Interval, family_intervals
from utils.compare.looks import Look, look_at
from utils.compare.measured_runs import RESAMPLED, MeasuredRuns, VariantRuns, measure_runs, protocol_differences

BETTER = "better"
WORSE = "worse"
UNDECIDED = "not distinguishable"
NO_VERDICT = "no verdict"
FAMILIES = (("ap",), ("ap50", "ap75"), ("small", "medium", "large"), ERRORS)
"""Figures whose intervals hold together; all classes are a family, too. The verdict is that of the first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A variant against the baseline. What cannot be computed is None (with a single seed, every interval).

    Attributes:
        name, baseline: the two variants.
        seeds: those finished in both.
        differences: mean of the paired differences of each of `RESAMPLED`; NaN where there is none.
        interval: of AP, the 95 % CI over seeds and images together, simultaneous over the variants of the study and over its looks.
        figures: the same of the others of `RESAMPLED`, each family of `FAMILIES` simultaneous over its figures, too.
        classes: the same of each class's AP, simultaneous over the classes, too.
        smallest_visible: minimum detectable effect (80 % power) of this study, with the same adjustments as `interval`.
        unequal: arms whose AP varies more over the seeds than that of the others, among the variant and the baseline.
        verdict: "better", "worse", "not distinguishable" or "no verdict". reason: why, in a sentence.
    """

    name: str
    baseline: str
    seeds: tuple[int, ...]
    differences: Mapping[str, float]
    interval: Interval | None
    figures: Mapping[str, Interval | None]
    classes: tuple[Interval | None, ...]
    smallest_visible: float | None
    unequal: tuple[str, ...]
    verdict: str
    reason: str

    @property
    def difference(self) -> float:
        """Mean of the paired differences in AP; NaN without a common seed."""
        return self.differences["ap"]


class Analysis:
    """The measured runs of a study, to be compared in families.

    Args:
        runs: of all variants.
        seeds: the planned ones; a variant in which one is missing gets no verdict.
        look: which analysis of the study this is; None for the only one.
        sharing: see `utils.compare.intervals.independent_runs`; above 0 runs of different seeds are measured on different images.
        groups, resamples, seed: see `measure_runs`.

    Attributes:
        seeds, look, sharing: as given.
        measured: the measured runs of each variant.
        units: number of images, or of groups of images.
    """

    def __init__(
        self,
        runs: Sequence[VariantRuns],
        seeds: Sequence[int],
        *,
        look: Look | None = None,
        sharing: float = 0.0,
        groups: Sequence[int] = (),
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.seeds = tuple(seeds)
        self.look = look or look_at(len(self.seeds), len(self.seeds))
        self.sharing = sharing
        self.measured, self.units = measure_runs(runs, seeds, groups=groups, resamples=resamples, seed=seed, folded=sharing > 0)
        self._classes = max((len(s.per_class) for m in self.measured.values() for s in m.scores.values()), default=0)

    def compare(self, baseline: str, variants: Sequence[str], *, tests: int = 0) -> tuple[Comparison, ...]:
        """Compare each variant with the baseline; return the comparisons in the order given.

        Args:
            tests: number of comparisons to adjust for where they have different baselines; 0 adjusts for `variants`.
        """
        base, others = self.measured[baseline], [self.measured[name] for name in variants]
        common = [tuple(s for s in runs.scores if s in base.scores) for runs in others]
        found: dict[int, Comparison] = {}
        for seeds in dict.fromkeys(common):  # variants with the same seeds are one family, whose variance they share
            numbers = [k for k, own in enumerate(common) if own == seeds]
            tested = self._family([base, *(others[k] for k in numbers)], seeds, tests or len(variants), related=not tests)
            found |= zip(numbers, tested, strict=True)
        return tuple(found[k] for k in range(len(variants)))

    def _family(self, arms: Sequence[MeasuredRuns], seeds: tuple[int, ...], count: int, *, related: bool) -> Iterator[Comparison]:
        """Compare arms, the baseline first, that all have these seeds."""
        base, *variants = arms
        found: dict[int, list[Difference | None]] = {}
        if len(seeds) > 1:
            values = np.array([[runs.figures(s) for s in seeds] for runs in arms])  # (arms, seeds, figures)
            means = [np.mean([runs.resampled[s] for s in seeds], axis=0) for runs in arms]
            resampled = np.array([mean - means[0] for mean in means[1:]])  # (variants, resamples, figures)
            for family in _families(values):
                for k in family:  # Bonferroni over the figures, Dunnett over the variants
                    adjusted: Any = {"count": count, "alpha": self.look.alpha / len(family), "related": related, "sharing": self.sharing}
                    found[k] = family_intervals(values[..., k], resampled[..., k], self.units, **adjusted)
        for number, runs in enumerate(variants):
            yield self._comparison(base, runs, seeds, {k: column[number] for k, column in found.items()})

    def _comparison(
        self, base: MeasuredRuns, runs: MeasuredRuns, seeds: tuple[int, ...], found: Mapping[int, Difference | None]
    ) -> Comparison:
        first = found.get(0)
        intervals = [f.interval if (f := found.get(k)) else None for k in range(len(RESAMPLED) + self._classes)]
        gaps = np.array([runs.figures(s) - base.figures(s) for s in seeds])
        names = base.runs.name, runs.runs.name
        unequal = tuple(name for name, flag in zip(names, first.unequal, strict=True) if flag) if first else ()
        faults = [*base.faults, *runs.faults, *protocol_differences(base.runs, runs.runs, self.seeds)]
        if len(self.seeds) < 2:
            faults.append("a single seed says nothing about the variance of training; use at least two, better three")
        words, reason = verdict(first, unequal, faults)
        if self.look.partial and not faults:
            reason = f"{reason} ({self.look})"
        return Comparison(
            name=names[1],
            baseline=names[0],
            seeds=seeds,
            differences={name: float(gaps[:, k].mean()) if seeds else math.nan for k, name in enumerate(RESAMPLED)},
            interval=intervals[0],
            figures=dict(zip(RESAMPLED[1:], intervals[1:], strict=False)),
            classes=tuple(intervals[len(RESAMPLED) :]),
            smallest_visible=first.detectable if first else None,
            unequal=unequal,
            verdict=words,
            reason=reason,
        )


def _families(values: NDArray[np.float64]) -> Iterator[list[int]]:
    """The columns of `RESAMPLED` and of the classes, by family; without those that are NaN in a run, as a class without objects.

    Args:
        values: (arms, seeds, figures).
    """
    known = np.asarray(np.isfinite(values).all((0, 1)))
    for family in (*([RESAMPLED.index(name) for name in names] for names in FAMILIES), range(len(RESAMPLED), len(known))):
        yield [k for k in family if known[k]]


def verdict(tested: Difference | None, unequal: Sequence[str] = (), faults: Sequence[str] = ()) -> tuple[str, str]:
    """Decide the verdict by the interval, and say why. With `faults` there is no verdict.

    Args:
        unequal: names of models that vary more over the seeds than the others.
    """
    if faults:
        return NO_VERDICT, "; ".join(faults)
    if tested is None:
        return NO_VERDICT, "no interval can be computed: it needs at least two images with objects, and results that vary"
    interval = tested.interval
    if tested.identical and interval.error_images == 0:
        return UNDECIDED, "both are the same: each seed has exactly the same AP in both"
    ends = f"{_points(interval.low)} to {_points(interval.high)} points of AP"
    if interval.low <= 0 <= interval.high:
        vary = f"{' and '.join(unequal)} {'varies' if len(unequal) == 1 else 'vary'} more from seed to seed than the other models"
        return UNDECIDED, f"the 95 % CI contains zero ({ends})" + (f"; {vary}, which takes more seeds" if unequal else "")
    return (BETTER if interval.mean > 0 else WORSE), f"the 95 % CI is {'above' if interval.mean > 0 else 'below'} zero ({ends})"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "\u2212")
