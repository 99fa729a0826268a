"""How the error of 5 % is spent over several looks: the function of Lan and DeMets by hand, and what a look is called."""

from __future__ import annotations

import pytest

from utils.compare.looks import look_at


def test_one_look_has_the_whole_error() -> None:
    look = look_at(3, 3)
    assert (look.number, look.alpha, look.partial, look.exploratory) == (1, 0.05, False, False)
    assert str(look) == "the only look, after all 3 seeds"


def test_the_error_is_spent_as_lan_and_demets_spend_it() -> None:
    """2 - 2 Phi(1.959964 / sqrt t): 0.011396 at t = 0.6, 0.05 at 1."""
    first, last = look_at(3, 5), look_at(5, 5, [3])
    assert first.alpha == pytest.approx(0.011396, abs=1e-6)
    assert last.alpha == pytest.approx(0.05 - 0.011396, abs=1e-6)
    assert (first.number, last.number, first.partial, last.partial) == (1, 2, True, True)
    assert str(first) == "look 1, after 3 of at most 5 seeds: an interim look, at level 0.011"
    assert str(last) == "look 2, after 5 of at most 5 seeds: the last look, at level 0.039"


def test_all_looks_together_spend_5_percent() -> None:
    counts = (3, 5, 8, 10)
    assert sum(look_at(n, 10, counts[:k]).alpha for k, n in enumerate(counts)) == pytest.approx(0.05)


def test_seeds_beyond_the_plan_are_exploratory() -> None:
    look = look_at(5, 3, [3])
    assert look.exploratory
    assert look.partial
    assert str(look) == "exploratory: 2 of the 5 seeds were added beyond the 3 planned"
    assert look.alpha == 0.05
