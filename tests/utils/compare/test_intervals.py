"""Intervals and p-values against scipy.stats, literal values from textbooks, and their promise against simulations."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.utils.compare.synthetic import Scenes, detect, draw_scenes
from utils.compare.intervals import (
    Interval,
    bootstrap,
    combine,
    detectable_effect,
    holm,
    mde_over_seeds,
    minimum_detectable_effect,
    paired_t,
)
from utils.compare.resampled_ap import RankedDetections, mean_ignoring_nan


def measure(matches_of: Scenes, random: np.random.Generator, skill: float, weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """AP of a detector of this skill: (resamples,), of the images as they are when there are no weights."""
    ranking = RankedDetections(detect(random, matches_of, skill))
    weights = np.ones((1, len(matches_of.image)), np.int64) if weights is None else weights
    return mean_ignoring_nan(ranking.average_precision(weights).reshape(len(weights), -1))


def resamples(random: np.random.Generator, images: int, count: int) -> NDArray[np.int64]:
    return random.multinomial(images, np.full(images, 1 / images), size=count)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_the_seeds_interval_is_that_of_scipy(n: int) -> None:
    random = np.random.default_rng(n)
    variant, baseline = random.normal(0.31, 0.02, n), random.normal(0.3, 0.02, n)
    got, want = paired_t((variant - baseline).tolist()), stats.ttest_rel(variant, baseline)
    assert got is not None
    interval = want.confidence_interval()
    assert (got.low, got.high, got.p) == pytest.approx((interval.low, interval.high, want.pvalue), rel=1e-9)
    assert (got.mean, got.sd, got.n) == pytest.approx((np.mean(variant - baseline), np.std(variant - baseline, ddof=1), n))


def test_three_seeds_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, sd 1, t of 2 degrees of freedom 4.302653, half-width 4.302653 / sqrt 3."""
    got = paired_t([1, 2, 3])
    assert got is not None
    assert (got.low, got.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert got.p == pytest.approx(0.0741799, abs=1e-6)


def test_what_has_no_interval() -> None:
    assert paired_t([]) is None
    assert paired_t([0.1]) is None
    assert paired_t([0.1, float("nan"), 0.2]) is None
    assert bootstrap(0.1, np.array([0.1, 0.2]), 1) is None
    assert bootstrap(0.1, np.full(9, np.nan), 10) is None
    assert bootstrap(float("nan"), np.ones(9), 10) is None


def test_equal_runs_differ_by_nothing_and_surely_so() -> None:
    assert paired_t([0, 0, 0]) == Interval(0, 0, 0, 0, 3, 1)
    pair = Interval(0, 0, 0, 0, 3, 1), Interval(0, 0, 0, 0, 50, 1)
    assert (combine(*pair).p, combine(*pair).p_better, minimum_detectable_effect(*pair)) == (1, 0.5, 0)


def test_the_images_interval_rests_on_the_spread_of_the_resamples() -> None:
    values = np.array([0.1, 0.2, np.nan, 0.3])
    got = bootstrap(0.25, values, 61)  # t of 60 degrees of freedom: 2.000298
    assert got is not None
    assert (got.mean, got.sd, got.n) == pytest.approx((0.25, 0.1, 61))
    assert (got.low, got.high) == pytest.approx((0.25 - 0.2000298, 0.25 + 0.2000298), abs=1e-6)
    assert got.p == pytest.approx(2 * stats.t.sf(2.5, 60))


def test_holm_by_hand() -> None:
    """The example of R's p.adjust: 0.01, 0.02, 0.03, 0.04, 0.05."""
    assert holm([0.04, 0.01, 0.03, 0.02, 0.05]) == pytest.approx([0.09, 0.05, 0.09, 0.08, 0.09])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.7, 0.9]) == [1, 1]
    assert holm([]) == []


def test_a_variant_without_result_still_counts_for_holm() -> None:
    assert holm([None, 0.01, 0.03]) == [None, pytest.approx(0.03), pytest.approx(0.06)]


def test_both_sources_add_their_variances() -> None:
    """Equal parts: the error is that of one times root 2; Welch: 4 / (1 / 2 + 1 / 100) degrees of freedom."""
    seeds = Interval(0.05, 0, 0, 0.01 * 3**0.5, 3, 0.03)
    got = combine(seeds, Interval(0.05, 0, 0, 0.01, 101, 0.001))
    assert (got.error, got.df) == pytest.approx((0.01 * 2**0.5, 4 / 0.51))
    assert got.p == 0.03  # the largest of the three: here that of the seeds
    assert got.p_better == pytest.approx(0.985)
    negative = combine(Interval(-0.05, 0, 0, 0.01 * 3**0.5, 3, 0.03), Interval(-0.05, 0, 0, 0.01, 101, 0.001))
    assert negative.p_better == pytest.approx(0.015)


def test_two_close_sources_together_are_harder_than_each() -> None:
    got = combine(Interval(0.02, 0, 0, 0.01 * 5**0.5, 5, 0.04), Interval(0.02, 0, 0, 0.01, 101, 0.048))
    assert got.p == pytest.approx(2 * stats.t.sf(2**0.5, 4 / (1 / 4 + 1 / 100)))
    assert got.p > 0.15


@pytest.mark.parametrize(("n", "factor"), [(3, 3.26404), (5, 1.68200), (10, 0.99600), (30, 0.52925)])
def test_the_smallest_visible_difference_is_that_of_a_power_calculation(n: int, factor: float) -> None:
    """As of R: power.t.test(n=n, sd=1, power=0.8, type="paired")."""
    assert mde_over_seeds(2.0, n) == pytest.approx(2 * factor, rel=1e-4)


def test_the_smallest_visible_difference_is_seen_in_four_of_five_studies() -> None:
    random, effect = np.random.default_rng(0), mde_over_seeds(1.0, 5)
    differences = random.normal(effect, 1, (20_000, 5))
    assert np.mean(stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)


def test_the_hardest_test_decides_what_is_visible() -> None:
    assert minimum_detectable_effect(Interval(0, 0, 0, 1, 3, 1), Interval(0, 0, 0, 0.001, 50, 1)) == pytest.approx(3.26404, rel=1e-3)
    assert minimum_detectable_effect(Interval(0, 0, 0, 1e-6, 3, 1), Interval(0, 0, 0, 1, 10**6, 1)) == pytest.approx(2.80159, rel=1e-3)
    assert detectable_effect(1, 10**6) == pytest.approx(stats.norm.ppf(0.975) + stats.norm.ppf(0.8), rel=1e-4)


@pytest.fixture(scope="module")
def other_seeds() -> NDArray[np.float64]:
    """Differences of pairs of runs on the same images, one a seed: a seed gives both a common luck, and each its own."""
    random = np.random.default_rng(1)
    scenes = draw_scenes(random, 40, 2.0)
    out = []
    for _ in range(800):
        luck = random.normal(0, 0.1)
        skills = [skill + luck + random.normal(0, 0.08) for skill in (0.7, 0.5)]
        variant, baseline = (measure(scenes, random, skill)[0] for skill in skills)
        out.append(variant - baseline)
    return np.array(out)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_seeds_interval_covers_what_other_seeds_would_say(seeds: int, other_seeds: NDArray[np.float64]) -> None:
    """3000 studies with seeds drawn from a large number of them: the truth is the mean over these, on the given images."""
    random, truth = np.random.default_rng(seeds), other_seeds.mean()
    intervals = [paired_t(other_seeds[random.integers(0, len(other_seeds), seeds)].tolist()) for _ in range(3000)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals if i])
    assert 0.93 <= covered <= 0.97


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


def covered_by_images(seeds: int, studies: int, *, images: int = 50, count: int = 200) -> float:
    """The share of studies, each on a fresh data set, whose images interval holds the truth of the runs: their mean over all of these."""
    random = np.random.default_rng(seeds)
    pairs = [(0.8 + random.normal(0, 0.1), 0.6 + random.normal(0, 0.1)) for _ in range(seeds)]
    intervals, observed = [], []
    for _ in range(studies):
        scenes = draw_scenes(random, images, 2.0)
        weights = np.concatenate((np.ones((1, images), np.int64), resamples(random, images, count)))
        values = np.mean([measure(scenes, random, v, weights) - measure(scenes, random, b, weights) for v, b in pairs], axis=0)
        observed.append(values[0])
        intervals.append(bootstrap(float(values[0]), values[1:], images))
    truth = np.mean(observed)
    return float(np.mean([i.low <= truth <= i.high for i in intervals if i]))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_images_interval_covers_what_other_images_would_say(seeds: int) -> None:
    assert 0.93 <= covered_by_images(seeds, 2000) <= 0.97


def test_the_images_interval_covers_in_a_short_simulation() -> None:
    assert 0.91 <= covered_by_images(1, 250, count=100) <= 0.985
