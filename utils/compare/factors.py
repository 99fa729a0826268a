"""The design of a factorial study: its cells, and the contrasts that tell what each factor does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

MOST = 4
"""Factors of a study: they make 16 arms."""


def cells(factors: Sequence[str], baseline: str) -> dict[tuple[str, ...], str]:
    """The arms of a full factorial design: by the factors that are present, the arm's name."""
    subsets = [s for count in range(len(factors) + 1) for s in itertools.combinations(factors, count)]
    return {subset: "+".join(subset) or baseline for subset in subsets}


def contrasts(factors: Sequence[str]) -> dict[tuple[str, ...], list[float]]:
    """The weights of the cells in each main effect and each interaction of two factors.

    A main effect is the mean, over the levels of the other factors, of the difference that the factor makes. The interaction of two is
    the mean difference that one makes with the other less that without it: 0 if their effects add up.
    """
    subsets, wanted = [*cells(factors, "")], [s for count in (1, 2) for s in itertools.combinations(factors, count)]
    runs = 2.0 ** len(factors)
    return {effect: [math.prod(1 if f in s else -1 for f in effect) * 2.0 ** len(effect) / runs for s in subsets] for effect in wanted}
