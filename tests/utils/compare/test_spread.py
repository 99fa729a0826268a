"""The variance over seeds of a study's differences against literal values and an analysis of variance done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from utils.compare.spread import SeedVariance, joint_error, seed_variance


def test_one_variant_has_the_variance_of_its_paired_differences() -> None:
    values = np.array([[1.0, 2.0, 4.0], [2.0, 5.0, 6.0]])  # differences 1, 3, 2: variance 1
    got = seed_variance(values)
    assert (got.variance.tolist(), got.df.tolist(), got.baseline.tolist()) == ([1.0], [2.0], [0.5])
    assert not got.unequal.any()


def test_several_arms_share_the_residual_variance_of_a_two_way_layout() -> None:
    """Arms (0, 1, 5), (2, 2, 5), (1, 6, 5): arm means 2, 3, 4, seed means 1, 3, 5, overall 3; residuals by hand, 2 x 2 df."""
    residuals = np.array([[0, -1, 1], [1, -1, 0], [-1, 2, -1]], float)
    values = residuals + np.array([[2.0], [3.0], [4.0]]) + np.array([-2.0, 0.0, 2.0])
    got = seed_variance(values)
    assert got.variance == pytest.approx([2 * 10 / 4] * 2)
    assert got.df.tolist() == [4, 4]


def test_it_does_not_depend_on_what_seeds_and_arms_have_in_common() -> None:
    values = np.random.default_rng(0).normal(size=(5, 4))
    moved = values + np.arange(5.0)[:, None] + np.array([3.0, 1.0, 4.0, 1.0])
    assert seed_variance(moved).variance == pytest.approx(seed_variance(values).variance)


def test_an_arm_of_larger_spread_is_judged_by_itself() -> None:
    values = np.random.default_rng(1).normal(0, 1, (7, 5))
    values[3] *= 8
    got = seed_variance(values)
    assert got.unequal.nonzero()[0].tolist() == [3]
    assert got.df[2] < 7 < got.df[0] == 24
    assert got.variance[2] > 2 * got.variance[0]


def test_a_noisy_baseline_is_in_every_difference() -> None:
    values = np.random.default_rng(2).normal(0, 1, (5, 5))
    values[0] *= 30
    got = seed_variance(values)
    assert got.unequal.tolist() == [True, False, False, False, False]
    assert (got.df < 4.2).all()
    assert (got.baseline > 0.9 * got.variance).all()


def test_a_diverged_run_does_not_change_what_the_others_vary_by() -> None:
    values = np.random.default_rng(3).normal(0, 1, (6, 4))
    clean = seed_variance(values[[0, 1, 2, 3, 5]])
    values[4, 2] -= 1000
    got = seed_variance(values)
    assert got.variance[[0, 1, 2, 4]] == pytest.approx(clean.variance)
    assert got.unequal.tolist() == [False] * 4 + [True, False]


def test_copies_of_an_arm_do_not_count_twice() -> None:
    values = np.random.default_rng(4).normal(0, 1, (4, 4))
    doubled = np.concatenate((values, values[:1] + 0.25, values[2:3]))
    got = seed_variance(doubled)
    assert got.variance == pytest.approx([seed_variance(values).variance[0]] * 5)
    assert got.df.tolist() == [9] * 5


def test_studies_are_estimated_together() -> None:
    values = np.random.default_rng(5).normal(size=(3, 4, 3))
    assert seed_variance(values).variance == pytest.approx(np.array([seed_variance(v).variance for v in values]))


def test_both_sources_add_and_a_small_estimate_does_not_gain_degrees_of_freedom() -> None:
    """Variances 1 and 1, of 2 and 100 df: Satterthwaite has 2^2 / (1 / 2 + 0.01); 1.5^3 is 3.375: 4.375^2 / (3.375^2 / 2 + 0.01)."""
    seeds = SeedVariance(np.array([2.0]), np.array([2.0]), np.array([1.0]), np.zeros(2, bool))
    got = joint_error(seeds, 2, np.array([1.0]), np.array([0.25]), 101)
    assert (got.variance[0], got.df[0], got.correlation[0]) == pytest.approx((2.0, 4.375**2 / (3.375**2 / 2 + 0.01), 0.75 / 2))


def test_nothing_that_varies() -> None:
    seeds = seed_variance(np.ones((3, 4)))
    assert seeds.variance.tolist() == [0, 0]
    got = joint_error(seeds, 4, np.zeros(2), np.zeros(1), 50)
    assert np.isfinite(got.df).all()
    assert got.variance.tolist() == [0, 0]
