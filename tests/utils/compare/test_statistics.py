"""What may be claimed of a study: verdicts, what forbids them, families of controls, groups of images and looks."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from tests.utils.compare.synthetic import Scenes, detect, draw_scenes, resampled
from utils.compare.intervals import Difference, Interval, family_intervals
from utils.compare.looks import look_at
from utils.compare.match_store import StoredMatches
from utils.compare.measured_runs import VariantRuns
from utils.compare.resampled_ap import average_precision
from utils.compare.statistics import Analysis, Comparison, verdict

SEEDS = (0, 1, 2)
SAME = {"data": "d1", "torch": "2.10"}


def compare_variants(
    baseline: VariantRuns, variants: Sequence[VariantRuns], seeds: Sequence[int], *, resamples: int = 1000, seed: int = 0
) -> tuple[Comparison, ...]:
    """Compare each variant with the baseline, as one family at the only look; see `Analysis`."""
    analysis = Analysis((baseline, *variants), seeds, resamples=resamples, seed=seed)
    return analysis.compare(baseline.name, [v.name for v in variants])


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
    return compare_variants(baseline, variants, seeds, resamples=100)


def test_a_large_gain_is_better_a_large_loss_worse_and_none_neither(baseline: VariantRuns, scenes: Scenes) -> None:
    variants = (arm("up", 1.1, scenes), arm("same", 0.6, scenes), arm("down", 0.1, scenes))
    up, same, down = compare(baseline, *variants)
    assert [c.name for c in (up, same, down)] == ["up", "same", "down"]
    assert [c.verdict for c in (up, same, down)] == ["better", "not distinguishable", "worse"]
    assert up.interval
    assert 0 < up.interval.low < up.difference == up.interval.mean < up.interval.high
    assert up.reason.startswith("the 95 % CI is above zero (+")
    assert same.reason.startswith("the 95 % CI contains zero (\u2212")
    assert up.smallest_visible is not None
    assert 0 < up.smallest_visible < up.difference
    assert up.unequal == ()


def test_the_numbers_are_those_of_copied_images(baseline: VariantRuns, scenes: Scenes) -> None:
    """AP, AP50 and a class from resamples whose images are really copied, through the same intervals."""
    variants = [arm("up", 0.7, scenes), arm("more", 0.8, scenes)]
    got = compare_variants(baseline, variants, SEEDS, resamples=20, seed=5)
    weights = np.random.default_rng(5).multinomial(150, np.full(150, 1 / 150), size=20)

    def figures(runs: VariantRuns, s: int, times: np.ndarray | None = None) -> list[float]:
        matches = runs.matches[s]()
        scores = average_precision(matches if times is None else resampled(matches, times))
        return [scores.ap, scores.ap50, *scores.per_class[:1]]

    values = np.array([[figures(runs, s) for s in SEEDS] for runs in (baseline, *variants)])
    each = np.array([[np.mean([figures(r, s, w) for s in SEEDS], 0) for w in weights] for r in (baseline, *variants)])
    for k, figures_of_its_family in ((0, 1), (1, 2), (2, 2)):  # AP50 beside AP75, one class beside another
        want = family_intervals(values[..., k], each[1:, :, k] - each[0, :, k], 150, 2, 0.05 / figures_of_its_family)
        for comparison, expected in zip(got, want, strict=True):
            interval = (comparison.interval, comparison.figures["ap50"], comparison.classes[0])[k]
            assert interval
            assert expected
            assert dataclasses.astuple(interval) == pytest.approx(dataclasses.astuple(expected.interval), rel=1e-9)


def test_the_differences_are_means_of_paired_ones(baseline: VariantRuns, scenes: Scenes) -> None:
    variant = arm("up", 0.7, scenes)
    (got,) = compare_variants(baseline, [variant], SEEDS, resamples=20)
    ours, theirs = ([average_precision(a.matches[s]()) for s in SEEDS] for a in (variant, baseline))
    for name in ("ap", "ap50", "ap75"):
        want = np.mean([getattr(a, name) - getattr(b, name) for a, b in zip(ours, theirs, strict=True)])
        assert got.differences[name] == pytest.approx(want)
    assert np.isnan(got.differences["small"])  # no such object


def test_the_same_study_gives_the_same_numbers(baseline: VariantRuns, scenes: Scenes) -> None:
    variant = arm("up", 0.7, scenes)
    first, second = (compare_variants(baseline, [variant], SEEDS, resamples=50) for _ in range(2))
    assert first[0].interval == second[0].interval


def test_one_seed_says_nothing(baseline: VariantRuns, scenes: Scenes) -> None:
    (got,) = compare(baseline, arm("up", 1.1, scenes), seeds=(1,))
    assert (got.verdict, got.seeds) == ("no verdict", (1,))
    assert "single seed" in got.reason
    assert got.difference > 0.05
    assert {got.interval, got.smallest_visible, *got.figures.values(), *got.classes} == {None}
    assert len(got.classes) == 2


def test_a_missing_seed_forbids_the_verdict_of_its_variant(baseline: VariantRuns, scenes: Scenes) -> None:
    short, whole = compare(baseline, arm("short", 1.1, scenes, seeds=(0, 2)), arm("whole", 1.1, scenes))
    assert (short.verdict, short.reason) == ("no verdict", "seed 1 of short is missing")
    assert short.seeds == (0, 2)
    assert short.interval
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
    alone = compare(baseline, arm("up", 1.1, scenes))[0]
    assert up.interval
    assert alone.interval
    assert up.interval.high - up.interval.low > alone.interval.high - alone.interval.low  # both were planned
    empty = compare(VariantRuns("base", {}, {}), VariantRuns("none", {}, {}))[0]
    assert empty.verdict == "no verdict"


@pytest.mark.parametrize("changed", [{"data": "d2", "torch": "2.10"}, {"data": "d2"}, {}])
def test_another_protocol_forbids_the_verdict(baseline: VariantRuns, scenes: Scenes, changed: dict[str, str]) -> None:
    up = arm("up", 1.1, scenes)
    other = dataclasses.replace(up, protocol={0: SAME, 1: SAME, 2: changed})
    got, fine = compare(baseline, other, arm("fine", 1.1, scenes))
    assert got.verdict == "no verdict"
    assert f"data differs: d1 (base, seed 0), {changed.get('data', 'unknown')} (up, seed 2)" in got.reason
    assert got.interval
    assert fine.verdict == "better"
    forbidden = compare(dataclasses.replace(baseline, protocol={0: SAME, 1: changed, 2: SAME}), up)[0]
    assert forbidden.verdict == "no verdict"


def test_other_images_forbid_the_verdict_and_the_numbers(baseline: VariantRuns) -> None:
    other = draw_scenes(np.random.default_rng(9), 150, 2.0)
    (got,) = compare(baseline, arm("up", 1.1, other))
    assert got.verdict == "no verdict"
    assert "seed 0 of up was measured on other images or annotations" in got.reason
    assert got.interval is None


def test_matches_are_looked_up_one_run_at_a_time(baseline: VariantRuns, scenes: Scenes) -> None:
    variant, reads = arm("up", 1.1, scenes), list[int]()

    def read(seed: int) -> StoredMatches:
        reads.append(seed)
        return variant.matches[seed]()

    compare(baseline, VariantRuns("up", {s: partial(read, s) for s in SEEDS}, dict.fromkeys(SEEDS, SAME)))
    assert reads == [*SEEDS]


def difference(low: float, high: float) -> Difference:
    return Difference(Interval((low + high) / 2, low, high, 0.04, 0.01, 0.01, 9), 2.5, (False, False), identical=False)


@pytest.mark.parametrize(
    ("ends", "want", "because"),
    [
        ((0.01, 0.03), "better", "the 95 % CI is above zero (+1.00 to +3.00 points of AP)"),
        ((-0.03, -0.01), "worse", "the 95 % CI is below zero (\u22123.00 to \u22121.00 points of AP)"),
        ((-0.01, 0.05), "not distinguishable", "the 95 % CI contains zero (\u22121.00 to +5.00 points of AP)"),
        ((0.0, 0.04), "not distinguishable", "the 95 % CI contains zero (+0.00 to +4.00 points of AP)"),
    ],
)
def test_the_verdict_follows_from_the_interval_alone(ends: tuple[float, float], want: str, because: str) -> None:
    assert verdict(difference(*ends)) == (want, because)


def test_no_verdict_without_an_interval_or_with_faults() -> None:
    assert verdict(None)[0] == "no verdict"
    assert verdict(difference(1, 2), faults=["x", "y"]) == ("no verdict", "x; y")


def test_an_arm_that_varies_more_is_named() -> None:
    assert verdict(difference(-1, 1), ["a"])[1].endswith("; a varies more from seed to seed than the other models, which takes more seeds")


def test_the_same_runs_twice_are_the_same(baseline: VariantRuns, scenes: Scenes) -> None:
    twin = dataclasses.replace(baseline, name="twin")
    (got,) = compare(baseline, twin)
    assert (got.verdict, got.reason) == ("not distinguishable", "both are the same: each seed has exactly the same AP in both")
    assert (got.difference, got.smallest_visible) == (0, 0)
    assert got.interval
    assert (got.interval.low, got.interval.high, got.interval.p) == (0, 0, 1)
    up, beside = compare(baseline, arm("up", 1.1, scenes), twin)
    assert (up.verdict, beside.reason) == ("better", got.reason)


def test_a_diverged_run_does_not_hide_the_others(baseline: VariantRuns, scenes: Scenes) -> None:
    bad, good = arm("bad", 0.6, scenes), [arm(f"v{k}", 0.62, scenes) for k in range(3)]
    collapsed = arm("bad", -6.0, scenes).matches[1]
    bad = dataclasses.replace(bad, matches={**bad.matches, 1: collapsed})
    diverged, up, *_ = compare(baseline, bad, arm("up", 1.1, scenes), *good)
    assert up.verdict == "better"
    assert diverged.verdict == "not distinguishable"
    assert diverged.unequal == ("bad",)


def test_images_in_groups_count_as_one(scenes: Scenes) -> None:
    """Each image four times: without groups the standard error over images would be half as large."""
    random, copies = np.random.default_rng(0), np.full(60, 4)
    few = draw_scenes(random, 60, 2.0)

    def repeated(name: str, skill: float) -> VariantRuns:
        runs = {s: resampled(detect(random, few, skill), copies) for s in SEEDS}
        unique = {s: dataclasses.replace(m, images=np.arange(240)) for s, m in runs.items()}
        return VariantRuns(name, {s: partial(unique.__getitem__, s) for s in SEEDS}, dict.fromkeys(SEEDS, SAME))

    runs = [repeated("base", 0.6), repeated("up", 0.9)]
    groups = np.repeat(np.arange(60), 4).tolist()
    errors = []
    for grouped in ([], groups):
        (got,) = Analysis(runs, SEEDS, groups=grouped, resamples=300).compare("base", ["up"])
        assert got.interval
        errors.append(got.interval.error_images)
    assert errors[1] / errors[0] == pytest.approx(2, rel=0.25)


def test_an_interim_look_is_stricter_and_says_which_it_is(baseline: VariantRuns, scenes: Scenes) -> None:
    runs = [baseline, arm("up", 1.1, scenes)]
    (only,), (interim,), (beyond,) = (
        Analysis(runs, SEEDS, look=look, resamples=100).compare("base", ["up"]) for look in (None, look_at(3, 6), look_at(3, 2, [2]))
    )
    assert only.interval
    assert interim.interval
    assert interim.interval.low < only.interval.low < only.interval.high < interim.interval.high
    assert interim.reason.endswith("(look 1, after 3 of at most 6 seeds: an interim look, at level 0.0056)")
    assert beyond.reason.endswith("(exploratory: 1 of the 3 seeds were added beyond the 2 planned)")


def test_controls_are_tested_directly_as_independent_comparisons(baseline: VariantRuns, scenes: Scenes) -> None:
    runs = [baseline, arm("up", 1.1, scenes), arm("control", 1.1, scenes), arm("other", 0.6, scenes)]
    analysis = Analysis(runs, SEEDS, resamples=100)
    (direct,) = analysis.compare("control", ["up"], tests=2)
    (weak,) = analysis.compare("other", ["up"], tests=2)
    assert (direct.baseline, direct.verdict, weak.verdict) == ("control", "not distinguishable", "better")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_placebos_are_seldom_better(seeds: int) -> None:
    """The whole procedure on drawn datasets and detectors: 3 variants as good as the baseline, 400 studies."""
    gains = 0
    for number in range(400):
        scenes = draw_scenes(np.random.default_rng([seeds, number]), 50, 2.0)
        planned = tuple(range(seeds))
        base, *variants = (arm(name, 0.6, scenes, seeds=planned, jitter=0.1, start=number) for name in ("base", "a", "b", "c"))
        got = compare_variants(base, variants, planned, resamples=150, seed=number)
        gains += any(c.verdict == "better" for c in got)
    assert gains / 400 <= 0.05
