"""The runs of a study: carried out once each, the same to the byte whatever is killed, and what bad input gets."""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.utils.compare.forked import FAILING_BLOCKS, ForkExecutor, ended, forked, settings, study_of, write_models, write_variant
from utils.compare import load_study
from utils.compare import main as study_main
from utils.compare.executors import Task
from utils.compare.run_result import read_run_result
from utils.compare.study import run_folder
from utils.errors import StopError, UserError
from utils.files.lock import folder_lock


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Forks for processes; no costs, and no report, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_main, "LocalExecutor", ForkExecutor)
        patch.setattr(study_main, "measure_costs", lambda *_: None)
        patch.setattr(study_main, "write_report", lambda _: None)
        yield


@pytest.fixture(scope="module")
def cfgs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def straight(cfgs, tiny_dataset, tmp_path_factory) -> Path:
    """A study of two variants and two seeds that nothing disturbed."""
    project = tmp_path_factory.mktemp("straight")
    study_of(settings(cfgs, tiny_dataset, project))
    return project / "study"


@pytest.fixture
def copied(straight, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(straight, tmp_path / "study"))


def measured(folder: Path) -> dict[str, bytes]:
    """results.csv and every run's matches and curve."""
    files = [folder / "results.csv", *folder.rglob("*.npz"), *folder.glob("runs/*/*/results.csv")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_the_folder_and_its_python_side(straight):
    study = load_study(straight)
    assert [(v.name, v.baseline) for v in study.variants] == [("tiny", True), ("tiny-se", False)]
    assert study.variants[1].edits == ("after row 2: insert SE []",)
    assert [(r.variant, r.seed, r.state, r.epochs, r.split) for r in study.runs] == [
        *(("tiny", seed, "done", 2, "val") for seed in (0, 1)),
        *(("tiny-se", seed, "done", 2, "val") for seed in (0, 1)),
    ]
    run = study.run("tiny-se", 1)
    assert [row["epoch"] for row in run.curve] == [0, 1]
    assert run.train_seconds > 0
    assert run.made_with["code"] == study.plan.versions["code"]
    assert len(study.matches("tiny-se", 1).images) == 4
    assert set(study.comparisons) == {"tiny-se"}
    records = study.records()
    assert [r["seed"] for r in records] == [0, 1, 0, 1]
    assert all(not isinstance(v, list | dict) for r in records for v in r.values())
    assert (straight / "runs" / "tiny" / "seed0" / "weights" / "best.pt").is_file()
    with (straight / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["variant"], r["seed"], r["state"]) for r in rows] == [(r.variant, str(r.seed), "done") for r in study.runs]
    assert float(rows[3]["last/ap"]) == study.run("tiny-se", 1).last.ap


def test_runs_of_a_seed_are_pairs_and_those_of_two_seeds_are_not(straight):
    curves = {(r.variant, r.seed): r.curve[0] for r in load_study(straight).runs}
    assert curves["tiny", 0]["train/box_loss"] != curves["tiny", 1]["train/box_loss"]
    options = [yaml.safe_load((straight / f"runs/{v}/seed1/opt.yaml").read_text()) for v in ("tiny", "tiny-se")]
    assert options[0] | {"cfg": "", "project": "", "save_dir": ""} == options[1] | {"cfg": "", "project": "", "save_dir": ""}


def test_a_study_killed_at_any_moment_ends_with_the_same_bytes(straight, cfgs, tiny_dataset, tmp_path):
    """compare.py and its runs are killed, each several times, at moments drawn from what a run takes."""
    config = settings(cfgs, tiny_dataset, tmp_path)
    lives = (0.3, 0.6, 0.9)
    for life in (0.5, 1.2):
        child = forked(lambda: study_of(config))
        time.sleep(life)
        os.kill(child, signal.SIGKILL)
        while ended(child) is None:
            time.sleep(0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForkExecutor, "kills", lives)
        study_of(config)
    assert measured(tmp_path / "study") == measured(straight)


def test_a_signal_saves_all_runs_and_the_same_command_goes_on(straight, cfgs, tiny_dataset, tmp_path):
    config = settings(cfgs, tiny_dataset, tmp_path, jobs=2)
    child = forked(lambda: study_of(config))
    while not list(tmp_path.glob("study/runs/*/*/results.csv")):
        time.sleep(0.005)
    os.kill(child, signal.SIGTERM)
    while (code := ended(child)) is None:
        time.sleep(0.01)
    assert code == 75
    study_of(config)
    assert measured(tmp_path / "study") == measured(straight)


@pytest.mark.parametrize("file", ["result.json", "last.npz", "best.npz", "results.csv"])
def test_a_damaged_result_is_noted_and_made_again(straight, copied, cfgs, tiny_dataset, file):
    path = copied / "runs" / "tiny" / "seed1" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert read_run_result(copied, "tiny", 1).state == "missing"
    study_of(settings(cfgs, tiny_dataset, copied.parent))
    assert (copied / "results.csv").read_bytes() == (straight / "results.csv").read_bytes()
    assert "damaged" in load_study(copied).run("tiny", 1).notes[0]


def test_a_finished_study_is_not_touched(copied, cfgs, tiny_dataset):
    times = {p: p.stat().st_mtime_ns for p in copied.glob("runs/**/*") if p.is_file()}
    study_of(settings(cfgs, tiny_dataset, copied.parent))
    assert {p: p.stat().st_mtime_ns for p in copied.glob("runs/**/*") if p.is_file()} == times


def test_seeds_and_variants_may_be_added(copied, cfgs, tiny_dataset, tmp_path):
    third = write_variant(tmp_path, "tiny-eca", cfgs[0], "ECA")
    study_of(settings([third], tiny_dataset, tmp_path, seeds=(3,)))
    study = load_study(copied)
    assert [(v.name, v.baseline) for v in study.variants] == [("tiny", True), ("tiny-se", False), ("tiny-eca", False)]
    assert study.plan.seeds == (0, 1, 2)
    assert [r.state for r in study.runs] == ["done"] * 9


def test_another_plan_is_refused_with_the_differences(copied, cfgs, tiny_dataset, tmp_path):
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(UserError) as error:
        study_of(settings(cfgs, tiny_dataset, tmp_path, epochs=5, baseline="tiny-se"), lr0=0.5)
    for line in ("--epochs: 2 before, 5 now", "--lr0: 0.01 before, 0.5 now", "--baseline: tiny before, tiny-se now", "another --name"):
        assert line in str(error.value)
    other = write_models(tmp_path)
    content = yaml.safe_load(Path(other[1]).read_text())
    Path(other[1]).write_text(yaml.safe_dump({**content, "width_multiple": 0.25}))
    with pytest.raises(UserError, match=r"tiny-se: another model \(6,228 parameters before, "):
        study_of(settings(other, tiny_dataset, tmp_path))
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_the_baseline_may_be_named_by_any_path(copied, cfgs, tiny_dataset, tmp_path):
    for name in ("tiny", "tiny.yaml", cfgs[0]):
        study_of(settings(cfgs, tiny_dataset, tmp_path, baseline=name))


def test_the_report_is_written_again_from_the_folder_alone(straight, copied, capsys):
    from utils.compare import report

    expected = (copied / "results.csv").read_bytes()
    before = load_study(copied).comparisons
    for path in (copied / "results.csv", copied / "comparisons.json"):
        path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.compare.provenance.code_digest", lambda: "other code")
        report.main([str(copied)])
    assert (copied / "results.csv").read_bytes() == expected
    after = load_study(copied).comparisons
    assert {name: c.verdict for name, c in after.items()} == {name: c.verdict for name, c in before.items()}
    assert "<h1>" in (copied / "report.html").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="no study there"):
        report.main([str(copied / "runs")])
    assert not (copied / "runs" / ".lock").exists()


def test_a_plugin_that_changes_between_runs_forbids_the_verdict(cfgs, tiny_dataset, tmp_path, monkeypatch):
    plugin = tmp_path / "mine.py"
    plugin.write_text("")
    begin = ForkExecutor.start

    def edited(engine: ForkExecutor, task: Task) -> None:
        plugin.write_text(f"NUMBER = {task.variant.count('-')}")
        begin(engine, task)
        while engine._running and not (run_folder(task.study, task.variant, task.seed) / "result.json").exists():
            time.sleep(0.01)

    monkeypatch.setattr(ForkExecutor, "start", edited)
    study_of(settings(cfgs, tiny_dataset, tmp_path, epochs=1, jobs=1, plugins=(str(plugin),)))
    comparison = load_study(tmp_path / "study").comparisons["tiny-se"]
    assert comparison.verdict == "no verdict"
    assert f"plug-in {plugin} differs" in comparison.reason


def test_a_disk_that_is_full_for_a_moment_fails_no_variant(cfgs, tiny_dataset, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "best.npz")

    config = settings(cfgs, tiny_dataset, tmp_path, epochs=1, seeds=(1,))
    with monkeypatch.context() as patch:
        patch.setattr("utils.compare.evaluate_run.load_model", full)
        with pytest.raises(UserError, match=r"(?s)tiny, seed 0: best.npz: No space left on device; repeat the command to try again"):
            study_of(config)
    assert [r.state for r in load_study(tmp_path / "study").runs] == ["missing"] * 2


def test_other_data_are_refused(copied, cfgs, tiny_dataset, tmp_path):
    data = Path(shutil.copytree(tiny_dataset.parent, tmp_path / "data"))
    label = min((data / "labels" / "val").glob("*.txt"), key=lambda p: -p.stat().st_size)
    label.write_text("")
    with pytest.raises(UserError, match="the val split has other images or annotations"):
        study_of(settings(cfgs, data / "data.yaml", tmp_path))
    content = yaml.safe_load((data / "data.yaml").read_text())
    (data / "data.yaml").write_text(yaml.safe_dump({**content, "names": {**content["names"], 0: "disc"}}))
    with pytest.raises(UserError, match=r"--data: 8 classes \(circle, .*before, 8 \(disc, .* now"):
        study_of(settings(cfgs, data / "data.yaml", tmp_path))


def test_a_variant_that_fails_does_not_stop_the_others(cfgs, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.training.nonfinite.MAX_RESTORES", 0)
    blocks = {"unknown": "SEE", "diverging": "Boom", "crashing": "Crash"}
    models = [*cfgs, *(write_variant(tmp_path, name, cfgs[0], block) for name, block in blocks.items())]
    config = settings(models, tiny_dataset, tmp_path, epochs=1, batch_size=1, seeds=(1,), plugins=(FAILING_BLOCKS,))
    study_of(config)
    study = load_study(tmp_path / "study")
    assert [r.state for r in study.runs] == ["done", "done", "failed", "failed", "failed"]
    assert "unknown module 'SEE'; did you mean 'SE'" in study.run("unknown", 0).error
    assert "the loss is not finite in epoch 0" in study.run("diverging", 0).error
    assert study.run("crashing", 0).error == "RuntimeError: this block cannot be trained"
    assert {study.comparisons[v].verdict for v in ("unknown", "diverging", "crashing")} == {"no verdict"}
    with (tmp_path / "study" / "results.csv").open() as file:
        assert [r["state"] for r in csv.DictReader(file)] == [r.state for r in study.runs]
    write_variant(tmp_path, "unknown", cfgs[0], "ECA")  # the file is mended, and repeat the command to continue with it
    study_of(config)
    assert [r.state for r in load_study(tmp_path / "study").runs] == ["done", "done", "done", "failed", "failed"]
    study_of(dataclasses.replace(config, cfgs=(models[3], cfgs[0]), name="baseless"))
    assert load_study(tmp_path / "baseless").comparisons["tiny"].verdict == "no verdict"


def test_figures_are_those_of_the_test_split_where_there_is_one(cfgs, tmp_path):
    from utils.data.shapes import write_dataset

    data = write_dataset(tmp_path / "shapes", {"train": 4, "val": 4, "test": 3}, size=96, seed=1)
    study_of(settings(cfgs, data, tmp_path, epochs=1, seeds=(1,)))
    study = load_study(tmp_path / "study")
    assert {r.split for r in study.runs} == {"test"}
    assert len(study.matches("tiny", 0).images) == 3


def test_no_verdict_on_images_that_were_trained_on(copied, cfgs, tiny_dataset, tmp_path):
    data = yaml.safe_load(tiny_dataset.read_text())
    root = {"path": str(tiny_dataset.parent)}
    (tmp_path / "same.yaml").write_text(yaml.safe_dump({**data, **root, "val": data["train"]}))
    study_of(settings(cfgs, tmp_path / "same.yaml", tmp_path, epochs=1, name="same"))
    comparison = load_study(tmp_path / "same").comparisons["tiny-se"]
    assert comparison.verdict == "no verdict"
    assert "8 of the 8 images of the val split are also trained on" in comparison.reason


def test_runs_of_other_code_are_not_compared(copied):
    from utils.compare.run_result import write_run_result
    from utils.compare.verdicts import compare

    run = read_run_result(copied, "tiny-se", 1)
    write_run_result(run.folder, dataclasses.replace(run, made_with={**run.made_with, "torch": "1.13"}))
    study = compare(load_study(copied), 100)
    assert study.comparisons["tiny-se"].verdict == "no verdict"
    assert "torch" in study.comparisons["tiny-se"].reason


def test_other_code_is_announced_and_restarts_interrupted_runs(copied, cfgs, tiny_dataset, monkeypatch, capsys):
    from utils.compare.checksummed_json import read_json, write_json

    planned, interrupted = load_study(copied).plan.versions, copied / "runs" / "tiny" / "seed1"
    (interrupted / "result.json").unlink()
    write_json(interrupted / "parts.json", {**(read_json(interrupted / "parts.json") or {}), "code": "earlier"})
    monkeypatch.setattr("utils.compare.main.versions", lambda: {**planned, "code": "later"})
    study_of(settings(cfgs, tiny_dataset, copied.parent))
    said = capsys.readouterr().out
    assert f"the study began with other versions (code {planned['code']}, now later). Finished runs are kept" in said
    notes = load_study(copied).run("tiny", 1).notes
    assert notes[0].startswith("begun with another version of Attune's code (earlier, now ")
    assert notes[0].endswith("; trained again from epoch 0")


def test_two_in_one_folder(copied, cfgs, tiny_dataset):
    with folder_lock(copied), pytest.raises(UserError, match="in use by process"):
        study_of(settings(cfgs, tiny_dataset, copied.parent))


def test_a_full_disk_leaves_the_run_to_be_done_later(cfgs, tiny_dataset, tmp_path, monkeypatch):
    from utils.compare import evaluate_run as measure

    def full(*_: object) -> None:
        raise UserError("last.npz: cannot be written (No space left on device)") from OSError(28, "No space left on device")

    config = settings(cfgs, tiny_dataset, tmp_path, epochs=1, seeds=(1,))
    with monkeypatch.context() as patch:
        patch.setattr(measure, "match_detections", full)
        with pytest.raises(UserError, match=r"(?s)2 runs are not finished; repeat the command.*:.*tiny, seed 0: .*No space left"):
            study_of(config)
    assert [r.state for r in load_study(tmp_path / "study").runs] == ["missing"] * 2
    study_of(config)
    assert [r.state for r in load_study(tmp_path / "study").runs] == ["done"] * 2


def test_a_run_that_is_killed_each_time_is_given_up(cfgs, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(ForkExecutor, "kills", (0.0,) * 99)
    with pytest.raises(UserError, match="ended with signal 9 8 times without progress"):
        study_of(settings(cfgs, tiny_dataset, tmp_path, seeds=(1,)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cfgs": ("tiny.yaml",)}, "only one variant"),
        ({"cfgs": ("yolov5n", "yolov5n-cotnett")}, "yolov5n-cotnett"),
        ({"cfgs": ("yolov5n", "yolov5n")}, "yolov5n is given twice"),
        ({"cfgs": ("yolov5n", "yolov5s"), "baseline": "yolov5m"}, "no such variant (available: yolov5n, yolov5s)"),
        ({"cfgs": ("yolov5n", "yolov5s"), "data": "nowhere.yaml"}, "nowhere.yaml"),
        ({"cfgs": ("yolov5n", "yolov5s"), "weights": "nowhere.pt"}, "no weights 'nowhere.pt'"),
        ({"cfgs": ("yolov5n", "yolov5s"), "plugins": ("nowhere.py",)}, "no such file"),
        ({"cfgs": ("yolov5n", "yolov5s"), "name": "full"}, "not empty, but holds no study"),
        ({"cfgs": ("yolov5n", "yolov5s"), "name": "x" * 300}, "File name too long"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(tiny_dataset, cfgs, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(Path(cfgs[0]).parent)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(UserError) as error:
        study_of(settings(**{"cfgs": (), "data": tiny_dataset, "project": tmp_path, **more}))
    assert message in str(error.value)
    assert not (tmp_path / "study" / "study.yaml").exists()


def test_stop_error_is_what_a_signal_raises(cfgs, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(ForkExecutor, "start", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(ForkExecutor, "wait", lambda *_: [])
    with pytest.raises(StopError, match="repeat the command to continue"):
        study_of(settings(cfgs, tiny_dataset, tmp_path))
