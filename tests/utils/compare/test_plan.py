"""What a study's plan is made of: variants, controls, fingerprints, files that are whole or not there."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from tests.utils.compare.forked import settings, write_models
from utils.compare.capacity_control import controls
from utils.compare.checksummed_json import read_json, write_json
from utils.compare.config import CompareConfig, parse_seeds, result_flags
from utils.compare.plan import make_plan, reconcile_plan
from utils.compare.plan_io import read_plan, write_plan
from utils.compare.provenance import data_digest
from utils.compare.results_csv import write_results
from utils.compare.study import Study, model_file
from utils.compare.variants import choose_baseline, list_edits, read_variants, variant_name, with_edits
from utils.config import Hyp, TrainConfig
from utils.data.config import load_data
from utils.data.scan import load_index
from utils.errors import UserError

NAMES = {0: "a", 1: "b"}


@pytest.fixture(scope="module")
def cfgs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def plan(cfgs, tiny_dataset, tmp_path):
    return reconcile_plan(make_plan(settings(cfgs, tiny_dataset, tmp_path), Hyp(), "python compare.py", 2), None, "")


def test_edits_are_described_in_words(cfgs):
    assert list_edits("yolov5s-cot") == ("row 6: 9 x C3CoT [512] in its place", "row 8: 3 x C3CoT [1024] in its place")
    assert list_edits("yolov5n-gnconv")[0] == "after row 17: insert GnConv [3], gate zero"
    assert list_edits("yolov5s") == ()
    tiny, narrow = read_variants([cfgs[0], "yolov5n"], NAMES, 64)
    assert "width_multiple 0.125 -> 0.25" in with_edits(narrow, choose_baseline("", [tiny, narrow])[0]).edits


@pytest.mark.parametrize("measure", ["params", pytest.param("gflops", marks=pytest.mark.slow)])
def test_a_control_has_the_capacity_of_its_variant(measure):
    variants = choose_baseline("", read_variants(["yolov5n", "yolov5n-gnconv", "yolov5n-ca"], NAMES, 64))
    (control,) = controls(variants, measure, NAMES, 64)  # coordinate attention adds less than 1 %
    assert (control.name, control.control_of, control.cfg) == ("control-yolov5n-gnconv", "yolov5n-gnconv", "yolov5n")
    capacity = {"params": "parameters", "gflops": "gflops"}[measure]
    assert getattr(control, capacity) == pytest.approx(getattr(variants[1], capacity), rel=0.01)
    assert [row[2] for row in control.spec["backbone"]] == [row[2] for row in variants[0].spec["backbone"]]


def test_a_plan_comes_back_from_its_file(plan, tmp_path):
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    model = model_file(tmp_path, "tiny-se")
    model.write_text(model.read_text().replace("64", "65", 1))
    damaged = read_plan(tmp_path)
    assert not damaged.variant("tiny-se").spec
    assert reconcile_plan(plan, damaged, "") == plan  # the same command restores it


@pytest.mark.parametrize(
    "text", ["", "attune_study: 9\n", "attune_study: 1\nname: x\n", "attune_study: 1\nvariants: 3\n", "- 1\n", "a: [\n"]
)
def test_a_file_that_is_no_plan(text, tmp_path):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError, match=r"study\.yaml"):
        read_plan(tmp_path)


@pytest.mark.parametrize("name", ["..", "", "a/b"])
def test_a_variant_of_a_plan_lies_in_its_own_folder(plan, tmp_path, name):
    write_plan(tmp_path, plan)
    path = tmp_path / "study.yaml"
    path.write_text(path.read_text().replace("- name: tiny-se\n", f"- name: '{name}'\n"))
    with pytest.raises(UserError, match="not a valid plan of a study"):
        read_plan(tmp_path)


def test_planned_seeds_make_looks_and_further_ones_are_exploratory(plan):
    first = dataclasses.replace(plan, seeds=(0, 1, 2), planned=5)
    then = reconcile_plan(dataclasses.replace(plan, seeds=(0, 1, 2, 3, 4), planned=5), first, "")
    assert (first.look.number, then.looks, then.look.number, then.look.exploratory) == (1, (3,), 2, False)
    beyond = reconcile_plan(dataclasses.replace(plan, seeds=tuple(range(7)), planned=7), then, "")
    assert (beyond.planned, beyond.looks, beyond.look.exploratory) == (5, (3, 5), True)
    assert reconcile_plan(then, then, "").look == then.look  # the same command again is the same look
    with pytest.raises(UserError, match="--max-seeds: 5 before, 6 now"):
        reconcile_plan(dataclasses.replace(plan, seeds=(0, 1, 2), planned=6), first, "")


def test_groups_are_part_of_the_plan(cfgs, tiny_dataset, tmp_path):
    grouped = make_plan(settings(cfgs, tiny_dataset, tmp_path, group=r"0000([01])?"), Hyp(), "python compare.py", 2)
    assert grouped.data.groups == (0, 1, 2, 2)
    write_plan(tmp_path, grouped := reconcile_plan(grouped, None, ""))
    assert read_plan(tmp_path) == grouped
    with pytest.raises(UserError, match="--group: 0000"):
        reconcile_plan(dataclasses.replace(grouped, data=dataclasses.replace(grouped.data, group="", groups=())), grouped, "")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"seeds": (5,), "max_seeds": 3}, "--max-seeds 3: fewer than the 5"),
        ({"hours": 3.0}, "--pilot and --hours need --plan"),
        ({"plan": float("nan")}, "--plan nan"),
    ],
)
def test_flags_of_planning_that_make_no_sense(flags, message):
    with pytest.raises(UserError, match=message):
        CompareConfig(cfgs=("a", "b"), **flags)


@pytest.mark.parametrize("cfg", ["./-x.yaml", "./.x.yaml", "control-x.yaml", " .yaml"])
def test_a_name_that_is_no_folder_or_looks_like_a_flag_is_refused(cfg):
    with pytest.raises(UserError, match="invalid variant name"):
        variant_name(cfg)


def test_a_checksum_shows_every_change(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1.5, "b": [float("nan"), "ü"]})
    assert read_json(path) == {"a": 1.5, "b": [None, "ü"]}
    text = path.read_text()
    for at in range(0, len(text), 7):
        path.write_text(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :])
        assert read_json(path) in (None, {"a": 1.5, "b": [None, "ü"]})  # white space says nothing
    assert read_json(tmp_path / "none.json") is None


def test_the_data_digest_sees_labels_and_pixels_but_no_places(tiny_dataset, tmp_path):
    def digest(yaml: Path) -> str:
        return data_digest(load_index(load_data(yaml), "val", cache_dir=tmp_path / "cache"))

    other = Path(shutil.copytree(tiny_dataset.parent, tmp_path / "moved")) / tiny_dataset.name
    before = digest(tiny_dataset)
    assert digest(other) == before
    image = min((other.parent / "images" / "val").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    changed = digest(other)
    assert changed != before
    label = max((other.parent / "labels" / "val").iterdir(), key=lambda p: p.stat().st_size)
    label.write_text("".join(label.read_text().splitlines(keepends=True)[:-1]))
    assert digest(other) not in (before, changed)


def test_every_flag_of_train_is_decisive_local_or_refused():
    decisive = result_flags(CompareConfig(cfgs=("a", "b")))
    own = {"weights", "data", "hyp", "plugins", "project", "name", "device", "workers", "cache", "noplots", "save_period", "save_interval"}
    refused = {"cfg", "augment", "seed", "resume", "resume_anyway", "exist_ok", "nosave", "sync_bn", "local_rank"}
    assert decisive.keys() | own | refused == {f.name for f in dataclasses.fields(TrainConfig)}
    assert not decisive.keys() & (own | refused)


def test_seeds():
    assert parse_seeds((3,)) == (0, 1, 2)
    assert parse_seeds((7, 2)) == (2, 7)


def test_names_cannot_inject_into_results_csv(plan, tmp_path):
    from utils.compare.study import RunResult

    hostile = dataclasses.replace(plan.data, names=("=cmd|'/C calc'!A0", 'a",b\n'))
    runs = (RunResult(variant="tiny", seed=0, state="failed", folder=tmp_path, error="+1\n=2,\r"),)
    write_results(Study(folder=tmp_path, plan=dataclasses.replace(plan, data=hostile), runs=runs, costs={}, comparisons={}))
    lines = (tmp_path / "results.csv").read_text().split("\n")
    assert len(lines) == 3  # header, a row, and the end
    assert lines[0].endswith(""",last/ap/=cmd|'/C calc'!A0,"last/ap/a"",b?\"""")
    assert ',"\'+1?=2,?",' in lines[1]
