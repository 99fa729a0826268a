"""k-fold studies: which image is in which fold, that runs use it, and that the corrected test keeps its level."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest
import yaml
from scipy import stats

from tests.utils.compare.forked import ForkExecutor, settings, study_of, write_models
from tests.utils.compare.synthetic import detect, draw_scenes
from utils.compare import load_study
from utils.compare import main as study_main
from utils.compare.config import CompareConfig
from utils.compare.folds import assign_folds, fold_plan
from utils.compare.intervals import independent_runs
from utils.compare.match_store import StoredMatches
from utils.compare.measured_runs import VariantRuns
from utils.compare.plan import make_plan
from utils.compare.plan_io import write_plan
from utils.compare.resampled_ap import average_precision
from utils.compare.run_result import read_run_result
from utils.compare.run_worker import main as work
from utils.compare.spread import seed_variance
from utils.compare.statistics import Analysis
from utils.config import Hyp
from utils.data.config import load_data
from utils.data.scan import load_index
from utils.errors import UserError


def test_folds_have_equal_shares_of_each_class_and_keep_groups_together():
    random = np.random.default_rng(0)
    shown = random.uniform(size=(120, 3)) < np.array([0.05, 0.3, 0.8])
    alone = assign_folds(shown, range(120), 5, seed=0)
    for column in (*shown.T, np.ones(120, bool)):
        counts = np.bincount(alone[column], minlength=5)
        assert counts.max() - counts.min() <= 2
    assert (alone == assign_folds(shown, range(120), 5, seed=0)).all()
    assert (alone != assign_folds(shown, range(120), 5, seed=1)).any()
    groups = np.arange(120) // 4
    together = assign_folds(shown, groups, 5, seed=0)
    assert all(len(set(together[groups == g])) == 1 for g in range(30))
    assert np.bincount(together).tolist() == [24] * 5


def test_a_run_trains_on_the_other_folds_and_leaves_the_dataset_alone(tiny_dataset, tmp_path):
    before = {p: p.read_bytes() for p in tiny_dataset.parent.rglob("*") if p.is_file()}
    plan = make_plan(settings(write_models(tmp_path), tiny_dataset, tmp_path, folds=3), Hyp(), "", 1)
    assert plan.seeds == (0, 1, 2, 3, 4, 5)
    measured = []
    for run in (0, 1, 2):
        data = load_data(fold_plan(plan, tmp_path, run).data.source)
        train, val = (load_index(data, split) for split in ("train", "val"))
        assert not {*train.paths} & {*val.paths}
        measured += val.paths
        assert len(train.paths) + len(val.paths) == sum(s.images for s in plan.data.splits.values())
    original = [load_index(load_data(tiny_dataset), split) for split in ("train", "val")]
    assert sorted(measured) == sorted(p.resolve() for index in original for p in index.paths)
    assert {p: p.read_bytes() for p in tiny_dataset.parent.rglob("*") if p.is_file()} == before


def coco_json(source, out):
    """The dataset as a JSON file for each split, of which the second has no more categories than it shows."""
    for split in ("train", "val"):
        (out / split).mkdir(parents=True)
        index = load_index(load_data(source), split)
        content = {"images": [], "annotations": [], "categories": []}
        for i, path in enumerate(index.paths):
            name = shutil.copy(path, out / split / f"{split}-{path.name}").name
            content["images"].append({"id": i, "file_name": f"{split}/{name}", "width": 128, "height": 128})
            for cls, x, y, w, h in index.annotations_of(i).tolist():
                box = [(x - w / 2) * 128, (y - h / 2) * 128, w * 128, h * 128]
                content["annotations"].append({"id": len(content["annotations"]), "image_id": i, "category_id": 10 + int(cls), "bbox": box})
        ids = {a["category_id"] for a in content["annotations"]} if split == "val" else range(10, 10 + index.nc)
        content["categories"] = [{"id": c, "name": index.names[c - 10]} for c in ids]
        (out / f"{split}.json").write_text(json.dumps(content))
    (out / "data.yaml").write_text("train: train.json\nval: val.json\n")
    return out / "data.yaml"


def voc_xml(source, out):
    """The dataset with a VOC file beside each image."""
    for split in ("train", "val"):
        (out / split).mkdir(parents=True)
        index = load_index(load_data(source), split)
        for i, path in enumerate(index.paths):
            name = shutil.copy(path, out / split / f"{split}-{path.name}")
            things = ""
            for cls, x, y, w, h in index.annotations_of(i).tolist():
                ends = {"xmin": (x - w / 2) * 128 + 1, "ymin": (y - h / 2) * 128 + 1, "xmax": (x + w / 2) * 128, "ymax": (y + h / 2) * 128}
                sides = "".join(f"<{side}>{value}</{side}>" for side, value in ends.items())
                things += f"<object><name>{index.names[int(cls)]}</name><bndbox>{sides}</bndbox></object>"
            name.with_suffix(".xml").write_text(f"<annotation><size><width>128</width><height>128</height></size>{things}</annotation>")
    (out / "data.yaml").write_text(yaml.safe_dump({"train": "train", "val": "val", "names": index.names}))
    return out / "data.yaml"


def boxes(source):
    """By image, its boxes in train and val together; and the number of images of each split."""
    found, counts = {}, []
    for split in ("train", "val"):
        index = load_index(load_data(source), split)
        found |= {path.name: index.annotations_of(i).tolist() for i, path in enumerate(index.paths)}
        counts.append(len(index))
    return found, counts


@pytest.mark.parametrize("written", [coco_json, voc_xml])
def test_folds_of_coco_json_and_voc_xml(written, tiny_dataset, tmp_path):
    data = written(tiny_dataset, tmp_path / "data")
    plan = make_plan(settings(write_models(tmp_path), data, tmp_path, folds=3), Hyp(), "", 1)
    whole, _ = boxes(data)
    assert sum(map(len, whole.values())) == 60
    for run in range(3):
        found, counts = boxes(fold_plan(plan, tmp_path, run).data.source)
        assert counts == [8, 4]
        assert found == {name: pytest.approx(np.array(rows), abs=1e-6) for name, rows in whole.items()}


@pytest.mark.slow
@pytest.mark.parametrize("written", [coco_json, voc_xml])
def test_a_run_on_a_fold_of_coco_json_and_voc_xml(written, tiny_dataset, tmp_path):
    plan = make_plan(settings(write_models(tmp_path), written(tiny_dataset, tmp_path / "data"), tmp_path, folds=3, epochs=1), Hyp(), "", 1)
    write_plan(
        tmp_path / "study", dataclasses.replace(plan, variants=(dataclasses.replace(plan.variants[0], baseline=True), plan.variants[1]))
    )
    work([str(tmp_path / "study"), "tiny", "1", "--device", "cpu", "--workers", "0", "--noplots"])
    run = read_run_result(tmp_path / "study", "tiny", 1)
    assert (run.state, run.split, run.error) == ("done", "val", "")
    assert len(StoredMatches.load(run.folder / "last.npz").images) == 4


@pytest.mark.slow
def test_runs_are_paired_by_fold_and_seed(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(study_main, "LocalExecutor", ForkExecutor)
    monkeypatch.setattr(study_main, "measure_costs", lambda *_: None)
    monkeypatch.setattr(study_main, "write_report", lambda _: None)
    study_of(settings(write_models(tmp_path), tiny_dataset, tmp_path, folds=2, seeds=(1,), epochs=1))
    study = load_study(tmp_path / "study")
    assert [(r["variant"], r["seed"], r["fold"], r["state"]) for r in study.records()] == [
        (name, 0, fold, "done") for name in ("tiny", "tiny-se") for fold in (0, 1)
    ]
    assert study.matches("tiny", 0).same_ground_truth(study.matches("tiny-se", 0))
    assert not study.matches("tiny", 0).same_ground_truth(study.matches("tiny", 1))
    assert study.comparisons["tiny-se"].seeds == (0, 1)
    with (study.folder / "results.csv").open() as file:
        assert [(row["seed"], row["fold"]) for row in csv.DictReader(file)] == [("0", "0"), ("0", "1")] * 2


def test_the_interval_of_folds_is_that_of_the_corrected_resampled_t():
    """Each run on images of its own: no bootstrap, and the variance of one difference counts 1/n + 1/(k - 1) times."""
    runs, scores = [], {}
    for name, skill in (("base", 1.0), ("a", 1.6)):
        found = {k: detect(np.random.default_rng(k), draw_scenes(np.random.default_rng(k), 15), skill) for k in range(6)}
        runs.append(VariantRuns(name, {k: functools.partial(found.get, k) for k in found}, {k: {} for k in found}))
        scores[name] = np.array([average_precision(m).ap for m in found.values()])
    compared = Analysis(runs, range(6), sharing=1 / 2).compare("base", ["a"])[0]
    d, interval = scores["a"] - scores["base"], compared.interval
    error = d.std(ddof=1) * (1 / 6 + 1 / 2) ** 0.5
    assert (interval.mean, interval.error_seeds, interval.error_images) == (pytest.approx(d.mean()), pytest.approx(error), 0)
    assert interval.low == pytest.approx(d.mean() - stats.t.isf(0.025, 5) * error)
    assert not compared.reason.startswith("seed")


@pytest.mark.parametrize("studies", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_corrected_test_keeps_its_level_and_the_naive_one_does_not(seeds, studies):
    """100 images in 5 folds; an image makes one arm look better where it is measured, and makes it better where it is trained on."""
    random, folds, images = np.random.default_rng(seeds), 5, 100
    differences = np.empty((studies, seeds * folds))
    for k in range(studies):
        measured, trained = random.normal(0, 1, images), random.normal(0, 1, images)
        for s in range(seeds):
            parts = random.permutation(images).reshape(folds, -1)
            others = (trained.sum() - trained[parts].sum(1)) / (images - images // folds)
            differences[k, s * folds : (s + 1) * folds] = measured[parts].mean(1) + others
    differences += random.normal(0, 0.1, differences.shape)
    variance = seed_variance(np.stack((np.zeros_like(differences), differences), 1))
    claimed = {}
    for sharing in (0.0, 1 / (folds - 1)):
        error = np.sqrt(variance.variance[:, 0] / independent_runs(seeds * folds, sharing))
        claimed[sharing] = (2 * stats.t.sf(np.abs(differences.mean(1)) / error, variance.df[:, 0]) < 0.05).mean()
    naive, corrected = claimed.values()
    assert corrected <= 0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5
    assert naive > 0.1
    known = np.abs(differences.mean(1) + 1.5) / error > stats.t.isf(0.025, variance.df[:, 0])  # and a known effect is found
    assert known.mean() > 0.9


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"folds": 1}, "--folds 1: must be >= 2"),
        ({"folds": 5, "plan": 1.0}, "--folds has no one set of measured images, which --plan needs"),
        ({"folds": 5, "predictions": ("a=b.json",)}, "which --predictions needs"),
    ],
)  # fmt: skip
def test_flags_that_make_no_sense(flags, message):
    with pytest.raises(UserError, match=message):
        CompareConfig(**flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"folds": 500}, r"--folds 500: train and val have only \d+ different images; each fold needs at least one"),
        ({"folds": 2, "group": "jpg|png"}, "are in one group"),
        ({"folds": 3, "group": "/(train|val)/"}, "--folds 3: train and val have only 2 groups of --group"),
    ],
)
def test_folds_that_do_not_fit_the_data(flags, message, tiny_dataset, tmp_path):
    with pytest.raises(UserError, match=message):
        make_plan(settings(write_models(tmp_path), tiny_dataset, tmp_path, **flags), Hyp(), "", 1)
