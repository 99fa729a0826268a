"""What each factor of a factorial study does, and whether two of them add up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from utils.compare.contrasts import contrast_intervals
from utils.compare.factors import cells, contrasts
from utils.compare.intervals import Difference, Interval
from utils.compare.measured_runs import protocol_differences
from utils.compare.statistics import BETTER, NO_VERDICT, UNDECIDED, WORSE, Analysis, verdict


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """A main effect, or the interaction of two factors, in AP (0..1). What cannot be computed is None.

    Attributes:
        factors: one, or the two that interact.
        interval: its 95 % CI over seeds and images together, simultaneous over all effects of the study and over its looks.
        detectable: minimum detectable effect (80 % power), with the same adjustments.
        verdict: of a main effect "better" or "worse"; of an interaction "more than their sum" or "less than their sum"; or "not
            distinguishable", "no verdict". reason: why, in a sentence.
    """

    factors: tuple[str, ...]
    interval: Interval | None
    detectable: float | None
    verdict: str
    reason: str


_INTERACTION = {BETTER: "more than their sum", WORSE: "less than their sum", UNDECIDED: UNDECIDED, NO_VERDICT: NO_VERDICT}


def factor_effects(analysis: Analysis, factors: Sequence[str], baseline: str) -> tuple[Effect, ...]:
    """Test all main effects and interactions of two factors by the paired runs of all cells; they are one family."""
    arms = [analysis.measured[name] for name in cells(factors, baseline).values()]
    seeds = [s for s in analysis.seeds if all(s in arm.scores for arm in arms)]
    faults = [fault for arm in arms for fault in arm.faults]
    faults += [line for arm in arms[1:] for line in protocol_differences(arms[0].runs, arm.runs, analysis.seeds)]
    if len(analysis.seeds) < 2:
        faults.append("a single seed says nothing about the variance of training; use at least two, better three")
    weights = contrasts(factors)
    found: list[Difference | None] = [None] * len(weights)
    if len(seeds) > 1:
        values = np.array([[arm.figures(s)[0] for s in seeds] for arm in arms])
        resampled = np.array([np.mean([arm.resampled[s][:, 0] for s in seeds], axis=0) for arm in arms])
        found = contrast_intervals(values, resampled, [*weights.values()], analysis.units, analysis.look.alpha, analysis.sharing)
    out = []
    for names, difference in zip(weights, found, strict=True):
        word, reason = verdict(difference, (), [*dict.fromkeys(faults)])
        if len(names) == 2:
            word = _INTERACTION[word]
        interval, detectable = (difference.interval, difference.detectable) if difference else (None, None)
        out.append(Effect(names, interval, detectable, word, reason))
    return tuple(out)
