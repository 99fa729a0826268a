"""Which hyper-parameters a trial of a search tries: a function of the seed, its number and the trials before it.

Hence a search that was killed goes on with the same trials, and needs no other state than the results so far.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from utils.config import Hyp
from utils.errors import UserError
from utils.training.search_space import Bounds, Space

_PARENTS = 5
_CHANGED, _SPREAD, _FACTORS = 0.8, 0.2, (0.3, 3.0)  # share of mutated hyper-parameters, deviation and limits of their factors
_RANDOM_FIRST = 10  # trials before TPE has something to go by: the same for every arm of a study
_DIGITS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """A trial: its values of the searched hyper-parameters, and its score, larger is better; NaN if it failed."""

    values: Mapping[str, float]
    score: float


def check_search(search: str) -> None:
    """Refuse a search whose library is missing.

    Raises:
        UserError: says how to install it.
    """
    if search == "optuna" and importlib.util.find_spec("optuna") is None:
        raise UserError("--search optuna: optuna is not installed; pip install -r requirements-tune.txt, or omit it for a random search")


def propose(search: str, space: Space, before: Sequence[Trial], seed: int) -> dict[str, float]:
    """The hyper-parameters of the next trial.

    Args:
        search: "random"; "optuna", a tree-structured Parzen estimator (Bergstra et al. 2011); or "evolve": one of the five best trials,
            each value multiplied by 1 + 0.2 u z (u uniform in 0..1, z normal) with probability 0.8, as YOLOv5 v7.0 does.
        before: the trials so far; the first has the hyper-parameters that were given.
        seed: of the search.
    """
    number = len(before)
    random = np.random.default_rng((seed, number))
    if search == "optuna":
        values = _estimated(space, before, seed * 10_007 + number)
    elif search == "evolve":
        values = _mutated(space, before, random)
    else:
        values = {name: _drawn(bounds, random) for name, bounds in space.items()}
    return {name: min(max(float(f"{values[name]:.{_DIGITS}g}"), bounds.low), bounds.high) for name, bounds in space.items()}


def own_values(space: Space, hyp: Hyp) -> dict[str, float]:
    """The values with which a search begins.

    Raises:
        UserError: a searched hyper-parameter has none.
    """
    values = {name: getattr(hyp, name) for name in space}
    if unset := [name for name, value in values.items() if value is None]:
        raise UserError(f"--space {unset[0]}: has no value to begin with; give one, as in --{unset[0]} {space[unset[0]].low:g}")
    return values


def best_trial(scores: Sequence[float]) -> int:
    """The number of the best trial, the first of equal ones; 0 if all failed (NaN)."""
    return max(range(len(scores)), key=lambda n: (-math.inf if math.isnan(scores[n]) else scores[n], -n))


def _drawn(bounds: Bounds, random: np.random.Generator) -> float:
    if bounds.log:
        return math.exp(random.uniform(math.log(bounds.low), math.log(bounds.high)))
    return float(random.uniform(bounds.low, bounds.high))


def _mutated(space: Space, before: Sequence[Trial], random: np.random.Generator) -> dict[str, float]:
    found = sorted((t for t in before if not math.isnan(t.score)), key=lambda t: -t.score)[:_PARENTS] or list(before[:1])
    weights = np.array([t.score - found[-1].score + 1e-6 if len(found) > 1 else 1.0 for t in found])
    parent = found[int(random.choice(len(found), p=weights / weights.sum()))]
    factors = np.ones(len(space))
    while (factors == 1).all():
        changes = (random.random(len(space)) < _CHANGED) * random.standard_normal(len(space)) * random.random() * _SPREAD
        factors = np.clip(1 + changes, *_FACTORS)
    scaled = zip(space, factors, strict=True)
    return {name: parent.values[name] * factor for name, factor in scaled}


def _estimated(space: Space, before: Sequence[Trial], seed: int) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges: dict[str, Any] = {name: optuna.distributions.FloatDistribution(b.low, b.high, log=b.log) for name, b in space.items()}
    sampler = optuna.samplers.TPESampler(seed=seed % (1 << 32), n_startup_trials=_RANDOM_FIRST, multivariate=False)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in before:
        values = {name: min(max(trial.values[name], b.low), b.high) for name, b in space.items()}
        score = None if math.isnan(trial.score) else trial.score
        state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(state=state, params=values, distributions=ranges, value=score))
    return dict(study.ask(ranges).params)
