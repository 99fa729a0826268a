"""What may be claimed of a study: verdicts, what forbids them, and how seldom nothing is called a gain."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from scipy import stats

from tests.utils.compare.synthetic import Scenes, detect, draw_scenes
from utils.compare.intervals import Interval, bootstrap, combine, holm, paired_t
from utils.compare.match_store import StoredMatches
from utils.compare.resampled_ap import average_precision
from utils.compare.statistics import Comparison, VariantRuns, compare_variants, verdict

SEEDS = (0, 1, 2)
SAME = {"data": "d1", "torch": "2.10"}


def arm(name: str, skill: float, scenes: Scenes, *, seeds: tuple[int, ...] = SEEDS, jitter: float = 0.03, start: int = 0) -> VariantRuns:
    random = np.random.default_rng([start, *name.encode()])
    runs = {s: detect(random, scenes, skill + random.normal(0, jitter)) for s in seeds}
    return VariantRuns(name, {s: partial(runs.__getitem__, s) for s in seeds}, dict.fromkeys(seeds, SAME))


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes(np.random.default_rng(0), 150, 2.0)


@pytest.fixture(scope="module")
def baseline(scenes: Scenes) -> VariantRuns:
    return arm("base", 0.6, scenes)


def compare(baseline: VariantRuns, *variants: VariantRuns, seeds: tuple[int, ...] = SEEDS) -> tuple[Comparison, ...]:
    return compare_variants(baseline, variants, seeds, resamples=200)


def test_a_large_gain_is_better_a_large_loss_worse_and_none_neither(baseline: VariantRuns, scenes: Scenes) -> None:
    variants = (arm("up", 1.1, scenes), arm("same", 0.6, scenes), arm("down", 0.1, scenes))
    up, same, down = compare(baseline, *variants)
    assert [c.name for c in (up, same, down)] == ["up", "same", "down"]
    assert [c.verdict for c in (up, same, down)] == ["better", "not distinguishable", "worse"]
    assert up.over_seeds
    assert up.over_images
    assert 0 < up.over_images.low < up.difference < up.over_images.high
    assert up.difference == up.over_seeds.mean == up.over_images.mean
    assert (up.over_seeds.n, up.over_images.n) == (3, 150)
    assert up.p_better is not None
    assert up.p_better > 0.97
    assert "the same side of zero" in up.reason
    assert "contains zero" in same.reason
    assert up.smallest_visible is not None
    assert 0 < up.smallest_visible < up.difference


def test_the_numbers_are_those_of_scipy(baseline: VariantRuns, scenes: Scenes) -> None:
    variant = arm("up", 0.7, scenes)
    result = compare_variants(baseline, [variant], SEEDS, resamples=50)
    (got,) = result
    ours, theirs = ([average_precision(a.matches[s]()) for s in SEEDS] for a in (variant, baseline))
    for name in ("ap", "ap50", "ap75"):
        want = stats.ttest_rel([getattr(s, name) for s in ours], [getattr(s, name) for s in theirs])
        interval = got.figures[name]
        assert interval
        assert (interval.low, interval.high, interval.p) == pytest.approx((*want.confidence_interval(), want.pvalue), rel=1e-6)
    for k, interval in enumerate(got.class_seeds):
        want = stats.ttest_rel([s.per_class[k] for s in ours], [s.per_class[k] for s in theirs])
        assert interval
        assert interval.p == pytest.approx(want.pvalue, rel=1e-6)


def test_the_images_interval_is_that_of_copied_images(baseline: VariantRuns, scenes: Scenes) -> None:
    variant = arm("up", 0.7, scenes)
    result = compare_variants(baseline, [variant], SEEDS, resamples=20, seed=5)
    weights = np.random.default_rng(5).multinomial(150, np.full(150, 1 / 150), size=20)
    values = [
        np.mean([average_precision(variant.matches[s](), w).ap - average_precision(baseline.matches[s](), w).ap for s in SEEDS])
        for w in weights
    ]
    interval = result[0].over_images
    assert interval
    assert interval.sd == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    per_class = [
        np.mean(
            [average_precision(variant.matches[s](), w).per_class - average_precision(baseline.matches[s](), w).per_class for s in SEEDS], 0
        )
        for w in weights
    ]
    got = [i.sd for i in result[0].class_images if i]
    assert got == pytest.approx(np.std(per_class, axis=0, ddof=1).tolist(), rel=1e-9)


def test_the_same_study_gives_the_same_numbers(baseline: VariantRuns, scenes: Scenes) -> None:
    variant = arm("up", 0.7, scenes)
    first, second = (compare_variants(baseline, [variant], SEEDS, resamples=50) for _ in range(2))
    assert first[0].over_images == second[0].over_images


def test_p_is_adjusted_for_the_number_of_variants(baseline: VariantRuns, scenes: Scenes) -> None:
    variants = [arm(f"v{k}", 0.75, scenes) for k in range(4)]
    together = compare(baseline, *variants)
    assert [c.p_holm for c in together] == pytest.approx(holm([c.p for c in together]))
    alone = compare(baseline, variants[0])[0]
    assert alone.p_holm == alone.p == together[0].p


def test_figures_without_objects_have_no_interval(baseline: VariantRuns, scenes: Scenes) -> None:
    result = compare_variants(baseline, [arm("up", 0.7, scenes)], SEEDS, resamples=20)
    assert result[0].figures["small"] is None


def test_one_seed_says_nothing(baseline: VariantRuns, scenes: Scenes) -> None:
    (got,) = compare(baseline, arm("up", 1.1, scenes), seeds=(1,))
    assert (got.verdict, got.seeds) == ("no verdict", (1,))
    assert "single seed" in got.reason
    assert got.difference > 0.05
    assert {got.over_seeds, got.over_images, got.p, got.p_holm, got.p_better, got.smallest_visible, *got.class_seeds} == {None}


def test_a_missing_seed_forbids_the_verdict_of_its_variant(baseline: VariantRuns, scenes: Scenes) -> None:
    short, whole = compare(baseline, arm("short", 1.1, scenes, seeds=(0, 2)), arm("whole", 1.1, scenes))
    assert (short.verdict, short.reason) == ("no verdict", "seed 1 of short is missing")
    assert short.seeds == (0, 2)
    assert short.over_seeds
    assert short.over_seeds.n == 2
    assert whole.verdict == "better"


def test_a_missing_seed_of_the_baseline_forbids_all_verdicts(scenes: Scenes) -> None:
    got = compare(arm("base", 0.6, scenes, seeds=(0, 1)), arm("up", 1.1, scenes), arm("down", 0.1, scenes))
    assert {c.verdict for c in got} == {"no verdict"}
    assert {c.reason for c in got} == {"seed 2 of base is missing"}


def test_a_variant_without_a_run_is_named_and_the_others_go_on(baseline: VariantRuns, scenes: Scenes) -> None:
    none, up = compare(baseline, VariantRuns("none", {}, {}), arm("up", 1.1, scenes))
    assert (none.verdict, none.seeds) == ("no verdict", ())
    assert np.isnan(none.difference)
    assert up.verdict == "better"
    assert up.p is not None
    assert up.p_holm == 2 * up.p  # both were planned
    empty = compare(VariantRuns("base", {}, {}), VariantRuns("none", {}, {}))[0]
    assert empty.verdict == "no verdict"


@pytest.mark.parametrize("changed", [{"data": "d2", "torch": "2.10"}, {"data": "d2"}, {}])
def test_another_protocol_forbids_the_verdict(baseline: VariantRuns, scenes: Scenes, changed: dict[str, str]) -> None:
    up = arm("up", 1.1, scenes)
    other = dataclasses.replace(up, protocol={0: SAME, 1: SAME, 2: changed})
    got, fine = compare(baseline, other, arm("fine", 1.1, scenes))
    assert got.verdict == "no verdict"
    assert f"data differs: d1 (base, seed 0), {changed.get('data', 'unknown')} (up, seed 2)" in got.reason
    assert got.over_seeds
    assert fine.verdict == "better"
    forbidden = compare(dataclasses.replace(baseline, protocol={0: SAME, 1: changed, 2: SAME}), up)[0]
    assert forbidden.verdict == "no verdict"


def test_other_images_forbid_the_verdict_and_the_numbers(baseline: VariantRuns) -> None:
    other = draw_scenes(np.random.default_rng(9), 150, 2.0)
    (got,) = compare(baseline, arm("up", 1.1, other))
    assert got.verdict == "no verdict"
    assert "seed 0 of up was measured on other images or annotations" in got.reason
    assert (got.over_seeds, got.over_images) == (None, None)


def test_matches_are_looked_up_one_run_at_a_time(baseline: VariantRuns, scenes: Scenes) -> None:
    variant, reads = arm("up", 1.1, scenes), list[int]()

    def read(seed: int) -> StoredMatches:
        reads.append(seed)
        return variant.matches[seed]()

    compare(baseline, VariantRuns("up", {s: partial(read, s) for s in SEEDS}, dict.fromkeys(SEEDS, SAME)))
    assert reads == [*SEEDS]


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.01, 3, 0.04)


@pytest.mark.parametrize(
    ("seeds", "images", "p", "want", "because"),
    [
        ((0.01, 0.03), (0.01, 0.03), 0.05, "better", "same side"),
        ((-0.03, -0.01), (-0.03, -0.01), 0.01, "worse", "same side"),
        ((0.01, 0.03), (0.01, 0.03), 0.0501, "not distinguishable", "seeds and images combined"),
        ((-0.01, 0.05), (0.01, 0.03), 0.01, "not distinguishable", "95 % CI over seeds contains zero (\u22121.00 to +5.00"),
        ((0.01, 0.03), (0.0, 0.04), 0.01, "not distinguishable", "95 % CI over images contains zero (+0.00 to +4.00"),
    ],
)
def test_the_verdict_follows_from_the_intervals(
    seeds: tuple[float, float], images: tuple[float, float], p: float, want: str, because: str
) -> None:
    words, reason = verdict(interval(*seeds), interval(*images), p)
    assert words == want
    assert because in reason


def test_the_same_runs_twice_are_not_distinguishable(baseline: VariantRuns) -> None:
    (got,) = compare(baseline, dataclasses.replace(baseline, name="twin"))
    assert (got.verdict, got.reason) == ("not distinguishable", "both have exactly the same AP")
    assert (got.difference, got.p_holm, got.p_better, got.smallest_visible) == (0, 1, 0.5, 0)


def test_no_verdict_without_intervals() -> None:
    assert verdict(None, None, None)[0] == verdict(interval(1, 2), None, 0.01)[0] == "no verdict"
    assert verdict(interval(1, 2), interval(1, 2), 0.001, faults=["x", "y"]) == ("no verdict", "x; y")


def null_study(random: np.random.Generator, seeds: int, variants: int, training: float, images: int = 100) -> list[str]:
    """Verdicts on variants that do nothing. Seeds and images draw their noise, the baseline's is common to all variants."""
    base_seeds, base_images = random.normal(0, training, seeds), random.normal()
    pairs = []
    for _ in range(variants):
        d = (random.normal(0, training, seeds) - base_seeds + random.normal() - base_images) / 2**0.5
        noise = random.normal(size=200)
        estimated = np.sqrt(random.chisquare(images - 1) / (images - 1)) * noise / noise.std(ddof=1)
        over_seeds, over_images = paired_t(d.tolist()), bootstrap(float(d.mean()), estimated, images)
        assert over_seeds
        assert over_images
        pairs.append((over_seeds, over_images))
    adjusted = holm([combine(*pair).p for pair in pairs])
    return [verdict(*pair, p)[0] for pair, p in zip(pairs, adjusted, strict=True)]


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("variants", [1, 4])
@pytest.mark.parametrize("training", [0.1, 2.0, 30.0])  # in units of the images' noise
def test_variants_that_do_nothing_seldom_gain(seeds: int, variants: int, training: float) -> None:
    random = np.random.default_rng([seeds, variants, int(training)])
    studies = [null_study(random, seeds, variants, training) for _ in range(600 // variants)]
    assert np.mean(["better" in study for study in studies]) <= 0.06
    assert np.mean(["worse" in study for study in studies]) <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_detectors_that_are_equal_seldom_gain(seeds: int) -> None:
    """The whole procedure on drawn data sets and detectors: 3 variants as good as the baseline, 500 studies."""
    gains = 0
    for number in range(500):
        scenes = draw_scenes(np.random.default_rng([seeds, number]), 50, 2.0)
        planned = tuple(range(seeds))
        base, *variants = (arm(name, 0.6, scenes, seeds=planned, jitter=0.1, start=number) for name in ("base", "a", "b", "c"))
        got = compare_variants(base, variants, planned, resamples=150, seed=number)
        gains += any(c.verdict == "better" for c in got)
    assert gains / 500 <= 0.06
