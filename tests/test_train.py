"""train.py end to end, on a tiny model and drawn images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import train
from tests.tiny_model import TINY
from utils.errors import UserError
from utils.training.checkpoint import load_checkpoint, save_checkpoint
from utils.training.early_stopping import EarlyStopping
from utils.training.resume import is_finished

WILD = ("--epochs", "9", "--lr0", "1e30", "--warmup_bias_lr", "1e30", "--amp", "off", "--noval")
FAST = ("--imgsz", "64", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--noplots", "--keep-resume")


@pytest.fixture(scope="module")
def cfg(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cfg") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def start(cfg: Path, data: Path, project: Path, *flags: str) -> Path:
    train.main(["--cfg", str(cfg), "--data", str(data), "--project", str(project), *FAST, *flags])
    return max(project.iterdir(), key=lambda p: p.stat().st_mtime_ns)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return [{k.strip(): v.strip() for k, v in row.items()} for row in csv.DictReader(file)]


def state(path: Path) -> dict[str, torch.Tensor]:
    content = load_checkpoint(path)
    flat = {f"{part}.{k}": v for part in ("model", "ema") for k, v in content[part].items()}
    for number, entry in content["resume"]["optimizer"]["state"].items():
        flat |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in entry.items() if v is not None}
    return flat


@pytest.fixture(scope="module")
def straight(cfg, tiny_dataset, tmp_path_factory) -> Path:
    """Three epochs in one go, each with its checkpoint."""
    return start(cfg, tiny_dataset, tmp_path_factory.mktemp("straight"), "--epochs", "3", "--save-period", "1", "--lr0", "0.02")


def test_run_folder(straight):
    names = {str(p.relative_to(straight)) for p in straight.rglob("*") if p.is_file() and "tfevents" not in p.name}
    assert {"opt.yaml", "hyp.yaml", "results.csv", "weights/last.pt", "weights/best.pt", "weights/epoch0.pt", "weights/epoch2.pt"} <= names
    options = yaml.safe_load((straight / "opt.yaml").read_text())
    assert (options["epochs"], options["hyp"]["lr0"], options["save_dir"]) == (3, 0.02, str(straight))
    assert yaml.safe_load((straight / "hyp.yaml").read_text())["lr0"] == 0.02
    assert [row["epoch"] for row in rows(straight)] == ["0", "1", "2"]
    # 2 batches an epoch: batch 5 is 5 % into the warm-up of 100, at lr0 * (1 - 2/3 * 0.99) = 0.0068
    last = rows(straight)[2]
    assert float(last["x/lr0"]) == pytest.approx(0.1 + 0.05 * (0.0068 - 0.1), rel=1e-4)
    assert float(last["x/lr1"]) == float(last["x/lr2"]) == pytest.approx(0.05 * 0.0068, rel=1e-4)


def test_best_holds_the_averaged_weights_only(straight):
    best, last = load_checkpoint(straight / "weights" / "best.pt"), load_checkpoint(straight / "weights" / "last.pt")
    assert best["resume"] is None
    assert best["ema"] is None
    source = load_checkpoint(straight / "weights" / f"epoch{best['epoch']}.pt")
    assert all(torch.equal(v, source["ema"][k]) for k, v in best["model"].items())
    assert last["epoch"] == 2
    assert list(best["names"].values()) == list(last["names"].values())


@pytest.mark.parametrize(("epoch", "workers"), [(0, 1), (1, 0), (1, 2)])
def test_a_resumed_run_equals_the_straight_one_to_the_bit(straight, tmp_path, epoch, workers):
    stopped = tmp_path / "exp"
    shutil.copytree(straight, stopped)
    shutil.copy(stopped / "weights" / f"epoch{epoch}.pt", stopped / "weights" / "last.pt")
    train.main(["--resume", str(stopped), "--workers", str(workers)])
    expected, found = state(straight / "weights" / "last.pt"), state(stopped / "weights" / "last.pt")
    assert expected.keys() == found.keys()
    assert [k for k in expected if not torch.equal(expected[k], found[k])] == []
    assert (stopped / "results.csv").read_bytes() == (straight / "results.csv").read_bytes()


def test_the_checkpoint_before_the_last_is_taken_where_it_is_named(straight, tmp_path):
    stopped = tmp_path / "exp"
    shutil.copytree(straight, stopped)
    before = stopped / "weights" / "last.prev.pt"
    shutil.copy(stopped / "weights" / "epoch0.pt", before)
    train.main(["--resume", str(before)])  # last.pt is finished: resuming that would be refused
    assert (stopped / "results.csv").read_bytes() == (straight / "results.csv").read_bytes()


def test_a_finished_run_goes_on_with_more_epochs_only(straight, tmp_path):
    with pytest.raises(UserError, match="all 3 epochs are done, nothing to resume; for more give --epochs"):
        train.main(["--resume", str(straight)])
    train.main(["--resume", str(straight), "--epochs", "4", "--project", str(tmp_path), "--name", "more"])
    assert [row["epoch"] for row in rows(tmp_path / "more")] == ["0", "1", "2", "3"]
    assert len(rows(straight)) == 3


def test_a_finished_run_keeps_weights_only(straight, tmp_path, tiny_dataset):
    folder = tmp_path / "exp"
    shutil.copytree(straight, folder)
    (folder / "metrics.json").unlink()  # as after a kill in the last validation
    options = load_checkpoint(folder / "weights" / "last.pt")["config"] | {"keep_resume": False}
    assert options["epochs"] == 3
    before = load_checkpoint(folder / "weights" / "last.pt")
    save_checkpoint(folder / "weights" / "last.pt", before | {"config": options})
    (folder / "weights" / "last.prev.pt").write_bytes(b"")
    train.main(["--resume", str(folder)])
    after = load_checkpoint(folder / "weights" / "last.pt")
    assert all(torch.equal(v, after["model"][k]) for k, v in before["ema"].items())
    assert after["ema"] is None
    assert is_finished(after)
    sizes = [(run / "weights" / name).stat().st_size for run, name in ((folder, "last.pt"), (folder, "best.pt"), (straight, "last.pt"))]
    assert sizes[0] < 1.1 * sizes[1] < 0.5 * sizes[2]
    assert not (folder / "weights" / "last.prev.pt").exists()
    message = r"last\.pt: its run is finished after 3 epochs and holds nothing to resume \(--keep-resume would keep it\); start from it"
    for flags in ([], ["--epochs", "9"]):
        with pytest.raises(UserError, match=message):
            train.main(["--resume", str(folder), *flags])
    train.main(["--resume", str(folder / "weights" / "epoch1.pt"), "--project", str(tmp_path), "--name", "more"])


def test_the_best_weights_come_along_into_a_new_folder(straight, tmp_path, monkeypatch):
    monkeypatch.setattr(EarlyStopping, "update", lambda *_: False)
    train.main(["--resume", str(straight), "--epochs", "4", "--project", str(tmp_path), "--name", "more"])
    assert (tmp_path / "more" / "weights" / "best.pt").read_bytes() == (straight / "weights" / "best.pt").read_bytes()


def test_flags_that_must_not_change_on_resume(straight):
    for flag, value, before in (("--batch-size", "8", "4"), ("--lr0", "0.5", "0.02"), ("--imgsz", "96", "64")):
        with pytest.raises(UserError, match=f"{flag} was {before} and is {value}. .*--resume-anyway.* --epochs, .* may change"):
            train.main(["--resume", str(straight), "--epochs", "4", flag, value])
    with pytest.raises(UserError, match=r"--batch-size was 4 and is 8; --optimizer was 'SGD' and is 'Adam'. --optimizer cannot change"):
        train.main(["--resume", str(straight), "--epochs", "4", "--batch-size", "8", "--optimizer", "Adam", "--resume-anyway"])
    with pytest.raises(UserError, match="weights only, nothing to resume"):
        train.main(["--resume", str(straight / "weights" / "best.pt")])


def test_newest_run_below_the_project(straight, tmp_path):
    with pytest.raises(UserError, match=r"no weights/last\.pt below"):
        train.main(["--resume", "--project", str(tmp_path)])
    with pytest.raises(UserError, match=f"{straight}/weights/last.pt: all 3 epochs are done"):
        train.main(["--resume", "--project", str(straight.parent)])


def test_many_features_at_once(cfg, tiny_dataset, straight, tmp_path):
    flags = (
        *("--weights", str(straight / "weights" / "best.pt"), "--epochs", "1", "--freeze", "2", "--optimizer", "AdamW", "--multi-scale"),
        *("--cos-lr", "--image-weights", "--label-smoothing", "0.1", "--amp", "bf16", "--fl_gamma", "1.5", "--mixup", "0.5"),
    )
    folder = start(cfg, tiny_dataset, tmp_path, *flags)
    report = (folder / "transfer.txt").read_text()
    start_state, end_state = load_checkpoint(straight / "weights" / "best.pt")["model"], load_checkpoint(folder / "weights" / "last.pt")
    assert f"transferred {len(start_state)}/{len(start_state)}" in report
    for key, value in start_state.items():
        frozen = key.startswith(("model.0.", "model.1."))
        if frozen:
            assert torch.equal(value, end_state["model"][key]), key
    assert any(not torch.equal(value, end_state["model"][key]) for key, value in start_state.items())


def test_rect_single_class_noval_nosave(cfg, tiny_dataset, tmp_path):
    folder = start(cfg, tiny_dataset, tmp_path, "--epochs", "2", "--rect", "--single-cls", "--noval", "--nosave", "--amp", "off")
    assert float(rows(folder)[0]["metrics/mAP_0.5"]) == 0
    assert float(rows(folder)[1]["val/obj_loss"]) > 0
    assert load_checkpoint(folder / "weights" / "last.pt")["names"] == {0: "item"}


def test_a_val_split_without_objects_leaves_the_last_epoch_as_the_best(cfg, tiny_dataset, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(tiny_dataset.parent, data)
    shutil.rmtree(data / "labels" / "val")
    folder = start(cfg, data / tiny_dataset.name, tmp_path / "runs", "--epochs", "2", "--patience", "1")
    assert "'val' has no box to measure, so AP will be NaN" in capsys.readouterr().out
    assert [row["metrics/mAP_0.5"] for row in rows(folder)] == ["nan", "nan"]
    assert load_checkpoint(folder / "weights" / "best.pt")["epoch"] == 1
    assert json.loads((folder / "metrics.json").read_text())["ap"] is None


def test_a_run_over_an_older_one_leaves_its_own_best(cfg, tiny_dataset, tmp_path, monkeypatch):
    over = ("--nosave", "--exist-ok", "--name", "same")
    start(cfg, tiny_dataset, tmp_path, "--epochs", "1", "--seed", "1", *over)
    monkeypatch.setattr(EarlyStopping, "update", lambda _, epoch, __: epoch == 0)  # the best epoch is not the last, and is not kept
    folder = start(cfg, tiny_dataset, tmp_path, "--epochs", "2", "--seed", "2", *over)
    assert load_checkpoint(folder / "weights" / "best.pt")["config"]["seed"] == 2


def test_early_stop(cfg, tiny_dataset, tmp_path):
    folder = start(cfg, tiny_dataset, tmp_path, "--epochs", "9", "--patience", "1", "--lr0", "0", "--warmup_bias_lr", "0")
    assert len(rows(folder)) < 9
    with pytest.raises(UserError, match=r"stopped early .* larger --patience"):
        train.main(["--resume", str(folder)])


def test_a_run_that_is_not_finite_goes_back_and_then_stops_with_the_images(cfg, tiny_dataset, tmp_path):
    with pytest.raises(UserError, match=r"not finite in epoch \d, batch \d, and restoring the checkpoint 2 times .*\.(jpg|png)"):
        start(cfg, tiny_dataset, tmp_path, *WILD)
    folder = tmp_path / "exp"
    events = [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert (events.count("rolled back"), events[-1]) == (2, "given up")
    assert all(v.isfinite().all() for v in state(folder / "weights" / "last.pt").values())
    before = (folder / "weights" / "last.pt").read_bytes()
    with pytest.raises(UserError, match="and there is no checkpoint to restore"):  # that of the run before is not this one's
        start(cfg, tiny_dataset, tmp_path, *WILD, "--exist-ok", "--nosave")
    assert (folder / "weights" / "last.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "nothing to train: give --weights"),
        (("--cfg", "yolov5n.yaml", "--epochs", "0"), "--epochs must be >= 1, got 0"),
        (("--cfg", "yolov5n.yaml", "--batch-size", "0"), "--batch-size must be >= 1, or -1"),
        (("--cfg", "yolov5n.yaml", "--epoch-count", "3"), "unknown argument '--epoch-count'; did you mean '--epochs'"),
        (("--cfg", "yolov5n.yaml", "--hyp", "hyp.scratch-lo.yaml"), "did you mean 'hyp.scratch-low.yaml'"),
        (("--cfg", "yolov5n.yaml", "--momentum", "2"), "momentum: 2.0 is outside 0 to 0.9999"),
        (("--cfg", "yolov5n.yaml", "--imgsz", "99999"), "--imgsz must be <= 16384, got 99999"),
        (("--cfg", "yolov5n.yaml", "--data", "nowhere.yaml"), "nowhere.yaml"),
        (("--weights", "nowhere.pt"), "no weights 'nowhere.pt'"),
        (("--cfg", "yolov5q.yaml"), "yolov5q"),
        (("--cfg", "yolov5n.yaml", "--freeze", "99"), "--freeze: no row"),
        (("--cfg", "yolov5n.yaml", "--classes", "77"), "class 77"),
        (("--cfg", "yolov5n.yaml", "--sync-bn"), "--sync-bn needs several GPUs"),
        (("--cfg", "yolov5n.yaml", "--amp", "fp16"), "--amp fp16: not supported on cpu"),
        (("--cfg", "yolov5n.yaml", "--batch-size", "-1"), "--batch-size -1 measures the memory of a GPU"),
        (("--resume", "nowhere.pt"), "--resume: no file nowhere.pt"),
    ],
)  # fmt: skip
def test_wrong_flags_and_files(tiny_dataset, tmp_path, flags, message):
    with pytest.raises(UserError) as error:
        train.main(["--data", str(tiny_dataset), "--project", str(tmp_path / "runs"), "--device", "cpu", "--imgsz", "64", *flags])
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()  # found before anything was written
