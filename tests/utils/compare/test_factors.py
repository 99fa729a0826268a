"""Factorial studies: the arms that are made, the effects and their intervals, pairs of arms, and how they are printed."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest
import yaml

from models.spec.model_spec import ModelSpec
from tests.utils.compare.forked import settings, study_of, write_models
from tests.utils.compare.studies import drawn_runs, make_study
from tests.utils.compare.synthetic import draw_scenes
from utils.compare.arms import read_arms
from utils.compare.combinations import missing_cells
from utils.compare.config import CompareConfig
from utils.compare.contrasts import contrast_intervals
from utils.compare.factors import contrasts
from utils.compare.intervals import family_intervals, familywise_p
from utils.compare.page.factors import effect_data, html_parts, latex_parts, markdown_parts
from utils.compare.page.report_data import build_report_data
from utils.compare.plan_io import read_plan, write_plan
from utils.compare.study import Study, Variant
from utils.compare.verdicts import compare, read_comparisons
from utils.errors import UserError


def arm(name, cfg="yolov5n.yaml", **own):
    return Variant(name=name, cfg=cfg, **own)


def test_the_arms_that_a_factorial_study_makes():
    base, ca = arm("base", hyp={"lr0": 0.02, "momentum": 0.9}), arm("ca", "models/yolov5n-ca.yaml", hyp={"lr0": 0.02, "momentum": 0.9})
    gnconv = arm("gnconv", "yolov5n-gnconv", hyp={"lr0": 0.02, "momentum": 0.9})
    siou = arm("siou", hyp={"lr0": 0.02, "box_loss": "siou"}, flags={"nms": "diou"})  # and momentum is the study's again
    made = {v.name: v for v in missing_cells([base, ca, gnconv, siou], "base", ["ca", "gnconv", "siou"])}
    assert list(made) == ["ca+gnconv", "ca+siou", "gnconv+siou", "ca+gnconv+siou"]
    assert made["ca+siou"] == arm("ca+siou", ca.cfg, hyp=siou.hyp, flags=siou.flags)
    assert ModelSpec.from_yaml(made["ca+gnconv"].cfg) == ModelSpec.from_yaml("yolov5n-ca+gnconv")
    assert made["ca+gnconv+siou"] == arm("ca+gnconv+siou", made["ca+gnconv"].cfg, hyp=siou.hyp, flags=siou.flags)
    both = arm("ca+siou", "yolov5n-ca", hyp=siou.hyp, flags=siou.flags)
    assert [v.name for v in missing_cells([base, ca, siou, both], "base", ["ca", "siou"])] == []  # given, and the same


def test_factors_on_top_of_a_variant():
    arms = [arm("base", "yolov5n-se.yaml"), arm("gnconv", "yolov5n-se+gnconv"), arm("decoupled", "yolov5n-se+decoupled")]
    (both,) = missing_cells(arms, "base", ["gnconv", "decoupled"])
    assert ModelSpec.from_yaml(both.cfg) == ModelSpec.from_yaml("yolov5n-se+gnconv+decoupled")


@pytest.mark.parametrize(
    ("arms", "factors", "message"),
    [
        ([arm("a", hyp={"lr0": 1.0})], ["a", "b"], "'b': there is no arm of that name"),
        ([arm("a", hyp={"lr0": 1.0})], ["a", "base"], "'base': is the baseline"),
        ([arm("a", hyp={"lr0": 1.0})], ["a"], "name two to 4 different arms"),
        ([arm("a", hyp={"lr0": 1.0})], ["a", "a"], "name two to 4 different arms"),
        ([arm("a", hyp={"lr0": 1.0}), arm("b", hyp={"lr0": 2.0})], ["a", "b"], "a and b both change lr0"),
        ([arm("a", hyp={"lr0": 1.0}), arm("b", weights="x.pt"), arm("a+b")], ["a", "b"], "the arm a+b is another than the combination"),
        ([arm("a", "yolov5s-ca"), arm("b", "yolov5s-gnconv")], ["a", "b"], "yolov5s-ca is no variant of the baseline's model yolov5n.yaml"),
        ([arm("a", "yolov5s"), arm("b", "yolov5n-ca")], ["a", "b"], "yolov5s is no variant of the baseline's model"),
    ],
)  # fmt: skip
def test_factors_that_make_no_sense(arms, factors, message):
    with pytest.raises(UserError) as error:
        missing_cells([arm("base"), *arms], "base", factors)
    assert message in str(error.value)


def test_contrasts_of_two_and_three_factors():
    assert contrasts(["a", "b"]) == {("a",): [-0.5, 0.5, -0.5, 0.5], ("b",): [-0.5, -0.5, 0.5, 0.5], ("a", "b"): [1, -1, -1, 1]}
    three = contrasts(["a", "b", "c"])  # cells: none, a, b, c, ab, ac, bc, abc
    assert three[("b",)] == [-0.25, -0.25, 0.25, -0.25, 0.25, -0.25, 0.25, 0.25]
    assert three["a", "c"] == [0.5, -0.5, 0.5, -0.5, -0.5, 0.5, -0.5, 0.5]
    for one, two in itertools.combinations(three.values(), 2):
        assert np.dot(one, two) == sum(one) == 0


def test_a_contrast_of_two_arms_is_their_difference():
    """The variance over seeds is the two-way layout's, worked out by hand, and the interval that of the comparison with a baseline."""
    random = np.random.default_rng(3)
    values, images = random.normal(0.4, 0.01, (4, 5)), random.normal(0.4, 0.004, (4, 400))
    found = contrast_intervals(values, images, [[-1, 0, 1, 0]], 100, 0.05)[0]
    expected = family_intervals(values, images[1:] - images[0], 100, 1, 0.05)[1]
    assert (found.interval.mean, found.interval.df) == (pytest.approx(expected.interval.mean), pytest.approx(expected.interval.df))
    assert (found.interval.low, found.interval.p) == (pytest.approx(expected.interval.low), pytest.approx(expected.interval.p))
    residual = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    variance = (residual**2).sum() / 12
    main = contrast_intervals(values, np.zeros((4, 2)), [contrasts(["a", "b"])[("a",)]], 100, 0.05)[0].interval
    assert main.error_seeds == pytest.approx(math.sqrt(variance / 5))  # four weights of 1/4 each
    assert main.df == pytest.approx(12)


@pytest.mark.parametrize("studies", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_effects_that_are_none_are_seldom_called_any(studies, monkeypatch):
    """Two main effects and an interaction, no true effect: one of the intervals misses zero in at most 5 % of the studies."""
    monkeypatch.setattr("utils.compare.contrasts.tested", lambda mean, errors, df, *_, **__: (abs(mean) / math.hypot(*errors), df))
    random, weights, found = np.random.default_rng(0), [*contrasts(["a", "b"]).values()], []
    for _ in range(studies):
        values = random.normal(0, 0.5, (4, 4)) + random.normal(0, 0.5, 4) + random.normal(0, 0.15, (4, 1))
        found.append(contrast_intervals(values, random.normal(0, 0.15, (4, 150)), weights, 150, 0.05))
    t, df = np.array(found).reshape(-1, 2).T
    wrong = (familywise_p(t, df, np.zeros(len(t)), 3) < 0.05).reshape(studies, 3).any(1).mean()
    assert wrong <= 0.055 + 3 * math.sqrt(0.055 * 0.945 / studies)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"factors": "ca"}, "factors: a list of arms to combine"), ({"factors": [1, 2]}, "factors: a list of arms to combine")],
)
def test_factors_of_a_file_that_make_no_sense(content, message, tmp_path):
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump({"arms": {"a": {"cfg": "yolov5n.yaml"}}, **content}))
    with pytest.raises(UserError, match=message):
        read_arms(CompareConfig(arms=str(tmp_path / "arms.yaml")))


SKILLS = {"base": 1.2, "a": 2.0, "b": 1.6, "a+b": 2.4, "failed": 0.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A study of two factors with drawn detections; another arm has failed."""
    folder, scenes = tmp_path_factory.mktemp("factors"), draw_scenes(np.random.default_rng(0), 20)
    made = make_study(tmp_path_factory.mktemp("made"), hostile=False, seeds=2, epochs=2, names=("x", "y"))
    runs = drawn_runs(folder, made.runs[0], scenes, SKILLS, (0, 1), "failed")
    variants = tuple(arm(name, baseline=name == "base", parameters=1_770_000, gflops=1.06) for name in SKILLS)
    plan = dataclasses.replace(made.plan, variants=variants, control=(), factors=("a", "b"), pairs=("all",))
    return compare(Study(folder=folder, plan=plan, runs=tuple(runs), costs={}, comparisons={}), 100)


def test_effects_are_differences_of_means_of_paired_runs(study):
    mean = {name: np.mean([r.last.ap for r in study.runs_of(name)]) for name in ("base", "a", "b", "a+b")}
    effects = {e.factors: e for e in study.effects}
    assert effects["a",].interval.mean == pytest.approx((mean["a"] - mean["base"] + mean["a+b"] - mean["b"]) / 2)
    assert effects["b",].interval.mean == pytest.approx((mean["b"] - mean["base"] + mean["a+b"] - mean["a"]) / 2)
    assert effects["a", "b"].interval.mean == pytest.approx(mean["a+b"] - mean["a"] - mean["b"] + mean["base"])
    assert effects["a",].verdict == "better"
    assert len(study.pairs) == 10
    pairs = {(c.name, c.baseline): c for c in study.pairs}
    assert pairs["a+b", "a"].interval.mean == pytest.approx(mean["a+b"] - mean["a"])
    one, adjusted = study.comparisons["a"].interval, pairs["a", "base"].interval
    assert adjusted.high - adjusted.low > one.high - one.low
    assert pairs["failed", "base"].verdict == "no verdict"


def test_a_cell_that_is_missing_leaves_no_verdict(study):
    runs = [dataclasses.replace(r, state="missing", last=None) if (r.variant, r.seed) == ("a+b", 1) else r for r in study.runs]
    effects = compare(dataclasses.replace(study, runs=tuple(runs)), 100).effects
    assert {(e.verdict, e.reason) for e in effects} == {("no verdict", "seed 1 of a+b is missing")}
    compare(study, 100)


def test_effects_and_pairs_are_read_again(study):
    again = read_comparisons(study.folder / "comparisons.json", study.plan, study.runs)
    assert (again["effects"], again["pairs"][0].interval) == (study.effects, study.pairs[0].interval)
    assert read_comparisons(study.folder / "comparisons.json", dataclasses.replace(study.plan, pairs=()), study.runs) == {"comparisons": {}}


def test_grid_effects_and_pairs_stand_in_every_file(study):
    data = build_report_data(study)
    text, tex, page = markdown_parts(study, data), latex_parts(study, data), html_parts(study, data)
    grid = [line for line in text.splitlines() if line.count("|") == 10]
    assert [line.split("|")[1:3] for line in grid[2:]] == [["  ", "  "], [" ✓ ", "  "], ["  ", " ✓ "], [" ✓ ", " ✓ "]]
    gain = data["variants"][3]["differences"]["ap"]["mean"]
    assert f"{100 * gain:+.2f}" in grid[5]
    assert "| a × b |" in text
    assert "| a+b against a |" in text
    assert re.search(r"^    \\checkmark & \\checkmark & \d+\.\d\d \$\\pm\$ \d", tex, re.MULTILINE)
    assert tex.count(r"95\,\% CI &") == 3
    assert "$<$ 0.001" in tex
    assert [page.count(f'id="{key}"') for key in ("factors", "pairs")] == [1, 1]
    assert [e["factors"] for e in effect_data(study)["effects"]] == [["a"], ["b"], ["a", "b"]]
    plain = dataclasses.replace(study, effects=(), pairs=())
    assert markdown_parts(plain, data) + latex_parts(plain, data) + html_parts(plain, data) == ""


def test_a_plan_of_factors_comes_back_from_its_file(study, tmp_path):
    write_plan(tmp_path, study.plan)
    assert read_plan(tmp_path).factors == study.plan.factors == ("a", "b")
    (tmp_path / "study.yaml").write_text((tmp_path / "study.yaml").read_text().replace("factors: [a, b]", "factors: [a, c]"))
    with pytest.raises(UserError, match="factors or pairs name no variant"):
        read_plan(tmp_path)


def test_pairs_that_make_no_sense(tiny_dataset, tmp_path):
    models = write_models(tmp_path)
    for pairs, message in ((("tiny-es", "tiny"), "no such variant; did you mean 'tiny-se'"), (("tiny",), "name at least two variants")):
        with pytest.raises(UserError, match=message):
            study_of(settings(models, tiny_dataset, tmp_path, pairs=pairs))
    assert not (tmp_path / "study").exists() or not [*(tmp_path / "study").glob("[!.]*")]
