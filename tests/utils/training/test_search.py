"""What the trials of a search try."""

from __future__ import annotations

import math

import numpy as np
import pytest

from utils.config import Hyp
from utils.errors import UserError
from utils.training.search import Trial, best_trial, check_search, own_values, propose
from utils.training.search_space import Bounds, read_space

SPACE = read_space(["lr0=1e-5:0.1:log", "momentum=0.6:0.98"])
FIRST = Trial({"lr0": 0.01, "momentum": 0.937}, 0.2)


def searched(search: str, count: int, seed: int = 0) -> list[Trial]:
    """A search for the maximum at lr0 = 0.001 and momentum = 0.9; every fourth trial fails."""
    trials = [FIRST]
    while len(trials) < count:
        values = propose(search, SPACE, trials, seed)
        score = math.nan if len(trials) % 4 == 3 else -abs(math.log10(values["lr0"]) + 3) - abs(values["momentum"] - 0.9)
        trials.append(Trial(values, score))
    return trials


@pytest.mark.parametrize("search", ["random", "evolve", "optuna"])
def test_a_trial_is_a_function_of_seed_and_trials_before(search: str) -> None:
    if search == "optuna":
        pytest.importorskip("optuna")
    trials = searched(search, 14)
    for number in (1, 5, 13):  # as after a kill: nothing is known but the trials before
        assert propose(search, SPACE, trials[:number], 0) == trials[number].values
    assert len({t.values["lr0"] for t in trials}) > 10
    assert all(1e-5 <= t.values["lr0"] <= 0.1 and 0.6 <= t.values["momentum"] <= 0.98 for t in trials)
    assert propose(search, SPACE, [FIRST], 0) != propose(search, SPACE, [FIRST], 1)


def test_random_trials_are_even_in_the_logarithm() -> None:
    before: list[Trial] = [FIRST]
    drawn = [propose("random", SPACE, before * n, 0) for n in range(1, 401)]
    assert np.mean([math.log10(v["lr0"]) for v in drawn]) == pytest.approx(-3, abs=0.15)  # 3 standard errors: 4 / sqrt(12) / 20 * 3 = .17
    assert np.mean([v["momentum"] for v in drawn]) == pytest.approx(0.79, abs=0.02)


def test_an_evolution_mutates_one_of_the_five_best() -> None:
    known = [Trial({"lr0": 0.01 * k, "momentum": 0.7}, float(k)) for k in range(1, 8)]
    narrow = {"lr0": Bounds(0, 1), "momentum": Bounds(0.7, 0.7001)}
    factors = [propose("evolve", narrow, known, seed)["lr0"] / 0.07 for seed in range(200)]
    # the seventh is the parent with probability 4 / (4 + 3 + 2 + 1 + 0); its standard deviation is below 0.2
    assert np.mean(np.abs(np.array(factors) - 1) < 0.1) > 0.3
    assert min(factors) > 3 / 7 * 0.3
    assert len(set(factors)) > 100


def test_tpe_finds_more_than_chance() -> None:
    pytest.importorskip("optuna")
    later = [t.score for t in searched("optuna", 40)[20:] if not math.isnan(t.score)]
    chance = [t.score for t in searched("random", 40)[20:] if not math.isnan(t.score)]
    assert np.mean(later) > np.mean(chance) + 0.3


def test_the_first_trials_of_tpe_are_the_same_for_every_arm() -> None:
    pytest.importorskip("optuna")
    a, b = (propose("optuna", SPACE, [Trial({"lr0": 0.01, "momentum": 0.9}, score)] * 3, 0) for score in (0.1, 0.9))
    assert a == b


def test_the_best_is_the_first_of_the_largest_scores() -> None:
    assert best_trial([0.1, math.nan, 0.3, 0.3]) == 2
    assert best_trial([math.nan, math.nan]) == 0
    assert best_trial([math.nan, -1.0]) == 1


def test_what_cannot_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--space anchors: has no value to begin with; give one, as in --anchors 2"):
        own_values(read_space(["anchors=2:10"]), Hyp())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"optuna is not installed; pip install -r requirements-tune\.txt"):
        check_search("optuna")
