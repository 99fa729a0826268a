"""What a study's plan says of tuning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TuningPlan:
    """The search that every arm gets.

    Attributes:
        trials: number of trainings of an arm; the first has its own hyper-parameters.
        search: of `utils.training.search_space.SEARCHES`.
        space: what is searched, as ``--space`` reads it.
    """

    trials: int
    search: str
    space: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.trials} trials, {self.search}: {' '.join(self.space)}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What tuning found for an arm.

    Attributes:
        values: the hyper-parameters of the best trial; empty if that is the first.
        trial: its number.
        scores: AP on val by trial; None where it failed.
    """

    values: Mapping[str, float]
    trial: int
    scores: tuple[float | None, ...]

    @property
    def before(self) -> float:
        """AP on val with the arm's own hyper-parameters; NaN if that trial failed."""
        return _number(self.scores[0])

    @property
    def after(self) -> float:
        """AP on val of the best trial; NaN if all failed."""
        return _number(self.scores[self.trial])


def _number(score: float | None) -> float:
    return math.nan if score is None else score
