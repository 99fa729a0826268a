"""Looking at a study before its last planned seed without more false gains: the error of 5 % is spent over the looks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from utils.compare.intervals import ALPHA


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One analysis of a study.

    Attributes:
        number: from 1.
        seeds: number of seeds analysed.
        planned: the greatest number of seeds, fixed before the first look.
        alpha: level of this look's tests; all looks up to `planned` seeds together have 0.05.
    """

    number: int
    seeds: int
    planned: int
    alpha: float

    @property
    def exploratory(self) -> bool:
        """Whether seeds were added beyond the plan, so that no error rate is known."""
        return self.seeds > self.planned

    @property
    def partial(self) -> bool:
        """Whether it is another look than the only one that was planned."""
        return self.number > 1 or self.seeds != self.planned

    def __str__(self) -> str:
        if self.exploratory:
            return f"exploratory: {self.seeds - self.planned} of the {self.seeds} seeds were added beyond the {self.planned} planned"
        if not self.partial:
            return "the only look, after its only seed" if self.seeds == 1 else f"the only look, after all {self.seeds} seeds"
        last = "the last look" if self.seeds == self.planned else "an interim look"
        return f"look {self.number}, after {self.seeds} of at most {self.planned} seeds: {last}, at level {self.alpha:.2g}"


def look_at(seeds: int, planned: int, earlier: Sequence[int] = ()) -> Look:
    """The look after `seeds` seeds, when there were looks after the `earlier` numbers of seeds.

    Each look tests at the error that its spending function adds, 2 - 2 Phi(1.96 / sqrt(share of the seeds)), that of Lan and DeMets (1983)
    for boundaries like O'Brien and Fleming's, https://doi.org/10.1093/biomet/70.3.659. By Bonferroni's inequality the sum bounds the
    error whatever the correlation of the looks, which depends on the images. A study that is looked at once has the whole 5 %.
    """
    before = [n for n in sorted(earlier) if n < min(seeds, planned)]
    alpha = _spent(min(seeds / planned, 1)) - (_spent(before[-1] / planned) if before else 0)
    return Look(number=len(before) + 1, seeds=seeds, planned=planned, alpha=alpha)


def _spent(share: float) -> float:
    from scipy import stats

    return ALPHA if share >= 1 else float(2 * stats.norm.sf(stats.norm.isf(ALPHA / 2) / math.sqrt(share)))
