"""What verdicts, plans and looks promise, held against simulated studies whose truth is known. The short form runs by default."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.utils.compare.simulated import IMAGES, claims, draw, false_claims, power
from utils.compare.looks import look_at
from utils.compare.planning import Variances, seeds_needed, smallest_effect

SHORT, LONG = 3000, 40_000
DIFFERENT = [{}, {"pairing": 0.0}, {"pairing": 0.9}, {"sd": 1.5}, {"heavy": True}, {"heavy": True, "sd": 1.5, "pairing": 0.0}]


def tolerance(share: float, studies: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * (share * (1 - share) / studies) ** 0.5


def rng(*key: object) -> np.random.Generator:
    return np.random.default_rng([*str(key).encode()])


@pytest.mark.parametrize(
    ("variants", "seeds", "settings"), [(6, 3, {}), (6, 3, {"heavy": True}), (1, 3, {"sd": 1.5}), (12, 5, {"pairing": 0.9}), (3, 2, {})]
)
def test_variants_without_effect_are_seldom_called_anything(variants: int, seeds: int, settings: dict[str, Any]) -> None:
    random = rng(variants, seeds, settings)
    assert false_claims(random, SHORT, variants, seeds, **settings) <= 0.055 + tolerance(0.055, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("settings", DIFFERENT, ids=str)
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("variants", [1, 2, 6, 12])
def test_the_family_wise_error_is_held(variants: int, seeds: int, settings: dict[str, Any]) -> None:
    random = rng(variants, seeds, settings)
    assert false_claims(random, LONG, variants, seeds, **settings) <= 0.055 + tolerance(0.055, LONG)


@pytest.mark.parametrize(("spread", "varies"), [("arm", 1), ("baseline", 0)])
def test_the_arm_that_is_named_is_drawn_with_4_times_the_spread(spread: str, varies: int) -> None:
    values, _ = draw(rng(spread), SHORT, 3, 5, spread=spread, pairing=0.0)
    deviations = values.std(-1, ddof=1).mean(0) / 0.5
    assert deviations == pytest.approx([3.76 if arm == varies else 0.94 for arm in range(4)], rel=0.05)  # 0.94 of sigma with 5 seeds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spread", "seeds", "limit"),
    [
        ("lognormal", 3, 0.085),
        ("lognormal", 5, 0.07),
        ("lognormal", 10, 0.07),
        ("arm", 3, 0.1),
        ("arm", 5, 0.055),
        ("arm", 10, 0.055),
        ("baseline", 3, 0.135),
        ("baseline", 5, 0.07),
        ("baseline", 10, 0.06),
    ],
)
@pytest.mark.parametrize("sd", [0.5, 1.5])
def test_the_family_wise_error_with_unequal_spread_is_what_the_docs_say(spread: str, seeds: int, limit: float, sd: float) -> None:
    assert false_claims(rng(spread, seeds, sd), LONG, 6, seeds, spread=spread, sd=sd) <= limit


@pytest.mark.parametrize(
    ("settings", "least"), [({"pairing": 0.5}, 0.5), ({"pairing": 0.9}, 0.9), ({"pairing": 0.5, "spread": "diverged"}, 0.48)], ids=str
)
def test_a_gain_of_one_point_is_found_with_three_seeds(settings: dict[str, Any], least: float) -> None:
    """6 variants, standard deviation 0.5 over seeds: requiring an interval over seeds and one over images had found 9 and 30 %."""
    assert power(rng(settings), 2 * SHORT, 6, 3, gain=1.0, **settings) >= least - tolerance(least, 2 * SHORT)


@pytest.mark.parametrize(("variants", "seeds"), [(1, 3), (6, 3), (6, 10)])
@pytest.mark.parametrize("settings", [{}, {"pairing": 0.9}, {"heavy": True}], ids=str)
def test_an_interval_that_is_not_adjusted_covers_95_percent(variants: int, seeds: int, settings: dict[str, Any]) -> None:
    missed = claims(*draw(rng(variants, seeds, settings), SHORT, variants, seeds, **settings), count=1)[:, 0].mean()
    assert 0.03 - tolerance(0.05, SHORT) <= missed <= 0.07 + tolerance(0.05, SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("settings", DIFFERENT, ids=str)
@pytest.mark.parametrize(("variants", "seeds"), [(1, 2), (1, 3), (1, 5), (1, 10), (2, 2), (6, 3), (6, 10), (12, 3)])
def test_coverage_lies_between_93_and_97_percent(variants: int, seeds: int, settings: dict[str, Any]) -> None:
    missed = claims(*draw(rng(variants, seeds, settings), LONG, variants, seeds, **settings), count=1)[:, 0].mean()
    assert 0.03 <= missed <= 0.07


@pytest.mark.parametrize(("looks", "most"), [((3, 5, 8, 10), 10), ((3, 5), 5)])
def test_looking_several_times_makes_no_more_false_claims(looks: tuple[int, ...], most: int) -> None:
    values, images = draw(rng(looks), SHORT, 4, most)
    claimed = np.zeros(SHORT, bool)
    for number, seeds in enumerate(looks):
        claimed |= claims(values[..., :seeds], images, look_at(seeds, most, looks[:number]).alpha).any(1)
    assert claimed.mean() <= 0.055 + tolerance(0.055, SHORT)


@pytest.mark.parametrize(("variants", "seeds", "sd", "pairing"), [(6, 3, 0.5, 0.5), (1, 5, 1.5, 0.5), (4, 10, 1.0, 0.9), (12, 5, 0.5, 0.0)])
def test_a_plan_is_right_within_20_percent(variants: int, seeds: int, sd: float, pairing: float) -> None:
    """Four of five studies find the effect that the plan names, or one a fifth smaller or larger."""
    known = Variances(seeds=sd * (2 * (1 - pairing)) ** 0.5, images=0.21, units=IMAGES, source="known")
    effect = smallest_effect(known, seeds, IMAGES, variants)
    found = [power(rng(variants, k), SHORT, variants, seeds, sd=sd, pairing=pairing, gain=k * effect) for k in (0.8, 1.2)]
    assert found[0] < 0.8 < found[1]
    assert seeds_needed(known, effect * 1.0001, IMAGES, variants) == seeds
