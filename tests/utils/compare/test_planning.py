"""What a study can detect: textbook numbers, what the advice says, and where the variances come from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.utils.compare.studies import make_study
from utils.compare.planning import Variances, advice, find_pilot, mean_variances, seeds_needed, smallest_effect
from utils.errors import UserError

PILOT = Variances(seeds=0.01, images=0.004, units=100, source="pilot")


def test_without_variance_over_images_it_is_a_paired_t_test() -> None:
    """As of R: power.t.test(n=5, sd=1, power=0.8, type="paired") has 1.682."""
    assert smallest_effect(dataclasses.replace(PILOT, images=0.0), 5, 100, 1) == pytest.approx(0.01682, rel=1e-3)


def test_with_many_seeds_the_images_remain() -> None:
    """(1.960 + 0.842) standard errors for one variant."""
    assert smallest_effect(dataclasses.replace(PILOT, units=10**6), 10**6, 10**6, 1) == pytest.approx(2.8016 * 0.004, rel=1e-3)
    assert smallest_effect(dataclasses.replace(PILOT, units=10**6), 10**6, 4 * 10**6, 1) == pytest.approx(2.8016 * 0.002, rel=1e-3)


def test_the_seeds_needed_are_the_fewest() -> None:
    needed = seeds_needed(PILOT, 0.02, 100, 3)
    assert needed is not None
    assert smallest_effect(PILOT, needed, 100, 3) <= 0.02 < smallest_effect(PILOT, needed - 1, 100, 3)
    assert seeds_needed(PILOT, 0.01, 100, 3) is None  # 2.8 standard errors over these images are more


def test_the_variances_are_the_means_of_a_study(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    got = mean_variances([*study.comparisons.values()], 48, "x")
    assert got
    assert (got.seeds, got.images) == pytest.approx((0.003 * 3**0.5, 0.001))
    assert mean_variances([study.comparisons["yolov5n-hornet"]], 48, "x") is None


def test_the_advice_names_seeds_images_and_budget(tmp_path: Path) -> None:
    plan = make_study(tmp_path, hostile=False).plan  # 4 variants without controls and 48 images
    lines = list(advice(plan, PILOT, effect=0.02, hours=10, seed_hours=2))
    effect = 100 * smallest_effect(PILOT, 3, 48, 4)
    assert lines[1] == f"3 seeds and 48 images detect {effect:.2f} points of AP (80 % power, 4 variants)"
    assert lines[2].startswith("in 10 h: 5 seeds and 48 images detect ")
    assert lines[3] == "to detect 2 points of AP:"
    assert [line.split(":")[0].split(" images")[0].strip() for line in lines[4:]] == ["48", "96", "192", "384"]
    assert lines[4].endswith(f": {seeds_needed(PILOT, 0.02, 48, 4) or 'more than 30'} seeds")
    assert "fewer than 2" in list(advice(plan, PILOT, effect=0, hours=1, seed_hours=2))[2]
    assert "--pilot" in next(advice(plan, None, effect=0, hours=0, seed_hours=1))


def test_a_pilot_that_is_none_is_told(tmp_path: Path) -> None:
    assert find_pilot("", tmp_path, needed=False) is None
    with pytest.raises(UserError, match="give one with two or more seeds of such data by --pilot"):
        find_pilot("", tmp_path, needed=True)
    with pytest.raises(UserError, match="no study there"):
        find_pilot(str(tmp_path), tmp_path, needed=True)
