"""Intervals and p-values against scipy.stats, tables of Dunnett's test and literal values; the bootstrap against fresh datasets."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.utils.compare.synthetic import Scenes, detect, draw_scenes
from utils.compare.intervals import critical_value, detectable_effect, family_intervals, familywise_p
from utils.compare.resampled_ap import RankedDetections, mean_ignoring_nan


@pytest.mark.parametrize(
    ("df", "variants", "value"),
    [(5, 2, 3.03), (5, 3, 3.29), (10, 2, 2.57), (10, 4, 2.89), (20, 4, 2.65), (20, 3, 2.54), (1e6, 2, 2.21), (1e6, 4, 2.44)],
)
def test_critical_values_are_those_of_dunnetts_table(df: float, variants: int, value: float) -> None:
    """Two-sided, 5 %, as printed in Dunnett (1964), "New tables for multiple comparisons with a control"."""
    assert critical_value(0.05, df, 0.5, variants) == pytest.approx(value, abs=0.0051)


def test_one_variant_has_students_t() -> None:
    assert critical_value(0.05, 2, 0.5, 1) == pytest.approx(4.302653, abs=1e-6)
    assert familywise_p(np.array([2.5]), np.array([60.0]), np.array([0.5]), 1)[0] == pytest.approx(2 * stats.t.sf(2.5, 60))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("df", [2.0, 7.5, 300.0])
def test_the_familywise_p_is_that_of_drawn_t_statistics(df: float, correlation: float) -> None:
    random = np.random.default_rng(0)
    normal = correlation**0.5 * random.normal(size=(200_000, 1)) + (1 - correlation) ** 0.5 * random.normal(size=(200_000, 4))
    largest = np.abs(normal).max(1) / np.sqrt(random.chisquare(df, 200_000) / df)
    limits = np.quantile(largest, [0.5, 0.95, 0.99])
    got = familywise_p(limits, np.full(3, df), np.full(3, correlation), 4)
    assert got == pytest.approx([0.5, 0.05, 0.01], rel=0.04)


def test_p_lies_between_one_test_and_bonferroni_however_small() -> None:
    t, df = np.array([3.0, 30.0, 300.0, 1e5]), np.array([2.0, 2.0, 8.0, 1.0])
    single, p = 2 * stats.t.sf(t, df), familywise_p(t, df, np.full(4, 0.5), 6)
    assert (single <= p).all()
    assert (p <= 6 * single).all()


@pytest.mark.parametrize(("n", "factor"), [(3, 3.26404), (5, 1.68200), (10, 0.99600), (30, 0.52925)])
def test_the_detectable_effect_is_that_of_a_power_calculation(n: int, factor: float) -> None:
    """As of R: power.t.test(n=n, sd=1, power=0.8, type="paired")."""
    error = 2.0 / math.sqrt(n)
    assert detectable_effect(error, n - 1, critical_value(0.05, n - 1, 0.5, 1)) == pytest.approx(2 * factor, rel=1e-4)


def test_the_detectable_effect_contains_the_adjustment() -> None:
    one, six = (detectable_effect(1.0, 12, critical_value(0.05, 12, 0.5, count)) for count in (1, 6))
    assert one == pytest.approx(3.05, abs=0.01)
    assert six == pytest.approx(one + critical_value(0.05, 12, 0.5, 6) - critical_value(0.05, 12, 0.5, 1), rel=0.03)


def test_three_seeds_and_images_that_do_not_matter_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, sd 1, t of 2 degrees of freedom 4.302653, half-width 4.302653 / sqrt 3, two-sided p 0.0741799."""
    (got,) = family_intervals(np.array([[1.0, 1, 1], [2, 3, 4]]), np.full((1, 9), 2.0), 50, 1, 0.05)
    assert got
    interval = got.interval
    assert (interval.mean, interval.low, interval.high) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert (interval.p, interval.error_seeds, interval.error_images, interval.df) == pytest.approx((0.0741799, 3**-0.5, 0, 2), abs=1e-6)


def test_seeds_that_do_not_matter_and_images_by_hand() -> None:
    """The spread of the resamples, 0.1, with t of 60 degrees of freedom, 2.000298; the resample that is NaN is left out."""
    (got,) = family_intervals(np.array([[0.5] * 3, [0.75] * 3]), np.array([[0.1, 0.2, np.nan, 0.3]]), 61, 1, 0.05)
    assert got
    assert (got.interval.low, got.interval.high) == pytest.approx((0.25 - 0.2000298, 0.25 + 0.2000298), abs=1e-6)
    assert got.interval.p == pytest.approx(2 * stats.t.sf(2.5, 60))


def test_p_is_below_5_percent_exactly_where_the_interval_leaves_zero_out() -> None:
    random = np.random.default_rng(1)
    for alpha in (0.05, 0.002):
        for _ in range(15):
            values = random.normal(0, 0.01, (5, 4)) + np.array([0, 0, 0.01, 0.02, 0.04])[:, None]
            for got in family_intervals(values, random.normal(0, 0.004, (4, 200)), 80, 4, alpha):
                assert got
                assert (got.interval.p < 0.05) == (not got.interval.low <= 0 <= got.interval.high)


def test_more_variants_widen_the_interval_and_a_shared_baseline_narrows_it() -> None:
    random = np.random.default_rng(2)
    values, resampled = random.normal(0, 0.01, (4, 5)), random.normal(0, 0.01, (3, 300))

    def width(**changed: object) -> float:
        settings = {"count": 3, "alpha": 0.05, "related": True, **changed}
        got = family_intervals(values, resampled, 100, **settings)[0]  # type: ignore[arg-type]
        assert got
        return got.interval.high - got.interval.low

    assert width(count=1) < width() < width(related=False) < width(count=12)
    assert width() < width(alpha=0.01)


def test_equal_differences_that_are_not_zero_have_no_interval_of_width_zero() -> None:
    values = np.array([[0.5, 0.5], [0.6, 0.6]])
    assert family_intervals(values, np.full((1, 9), 0.1), 50, 1, 0.05) == [None]
    (got,) = family_intervals(values, np.array([[0.09, 0.1, 0.11]]), 50, 1, 0.05)
    assert got
    assert got.interval.high - got.interval.low > 0.03


def test_the_same_arm_twice_differs_by_nothing() -> None:
    values = np.random.default_rng(3).normal(size=(2, 3))
    (got,) = family_intervals(values[[0, 0]], np.zeros((1, 9)), 50, 1, 0.05)
    assert got
    assert got.identical
    assert (got.interval.mean, got.interval.low, got.interval.high, got.interval.p, got.detectable) == (0, 0, 0, 1, 0)
    other, twin = family_intervals(values[[0, 1, 0]], np.random.default_rng(4).normal(size=(2, 99)), 50, 2, 0.05)
    assert other
    assert twin
    assert (other.identical, twin.identical, twin.interval.mean) == (False, True, 0)


def test_what_has_no_interval() -> None:
    values, resampled = np.random.default_rng(5).normal(size=(2, 3)), np.random.default_rng(6).normal(size=(1, 9))
    assert family_intervals(values, resampled, 1, 1, 0.05) == [None]  # one image, or all in one group
    assert family_intervals(values, np.full((1, 9), np.nan), 10, 1, 0.05) == [None]
    assert family_intervals(np.array([[0.1, np.nan], [0.1, 0.2]]), resampled, 10, 1, 0.05) == [None]


def measure(matches_of: Scenes, random: np.random.Generator, skill: float, weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """AP of a detector of this skill: (resamples,), of the images as they are when there are no weights."""
    ranking = RankedDetections(detect(random, matches_of, skill))
    weights = np.ones((1, len(matches_of.image)), np.int64) if weights is None else weights
    return mean_ignoring_nan(ranking.average_precision(weights).reshape(len(weights), -1))


def resamples(random: np.random.Generator, images: int, count: int) -> NDArray[np.int64]:
    return random.multinomial(images, np.full(images, 1 / images), size=count)


def test_the_spread_of_resamples_is_that_of_fresh_data_sets() -> None:
    random, images = np.random.default_rng(2), 60
    fresh, spreads = [], []
    for number in range(600):
        scenes = draw_scenes(random, images, 2.0)
        state = random.bit_generator.state
        observed = measure(scenes, random, 0.8)[0] - measure(scenes, random, 0.6)[0]
        fresh.append(observed)
        if number % 12 == 0:
            random.bit_generator.state = state  # the same detections
            weights = resamples(np.random.default_rng(number), images, 200)
            spreads.append((measure(scenes, random, 0.8, weights) - measure(scenes, random, 0.6, weights)).std(ddof=1))
    assert np.sqrt(np.mean(np.square(spreads))) == pytest.approx(np.std(fresh, ddof=1), rel=0.1)


def covered(seeds: int, studies: int, *, images: int = 50, count: int = 200) -> float:
    """The share of studies, each of other seeds on a fresh dataset, whose interval holds the truth: the mean difference over all."""
    random = np.random.default_rng(seeds)
    found, observed = [], []
    for _ in range(studies):
        scenes = draw_scenes(random, images, 2.0)
        weights = np.concatenate((np.ones((1, images), np.int64), resamples(random, images, count)))
        skills = [[skill + random.normal(0, 0.1) for skill in (0.6, 0.8)] for _ in range(seeds)]
        values = np.array([[measure(scenes, random, skill, weights) for skill in pair] for pair in skills])  # (seeds, 2, 1 + count)
        mean = (values[:, 1] - values[:, 0]).mean(0)
        observed.append(mean[0])
        found += family_intervals(values[..., 0].T, mean[None, 1:], images, 1, 0.05)
    truth = np.mean(observed)
    return float(np.mean([t.interval.low <= truth <= t.interval.high for t in found if t]))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers_what_other_seeds_and_images_would_say(seeds: int) -> None:
    assert 0.93 <= covered(seeds, 2000) <= 0.98


def test_the_interval_covers_in_a_short_simulation() -> None:
    assert covered(2, 80, count=100) >= 0.88
