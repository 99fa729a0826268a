"""Stopping and resuming train.py within an epoch, to the bit; and what is refused."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import train
from utils.errors import StopError, StorageError, UserError
from utils.evaluation import evaluate
from utils.evaluation.metrics import Evaluator
from utils.files.lock import folder_lock
from utils.log import LOG
from utils.training import engine, session, trainer
from utils.training.checkpoint import load_checkpoint, save_checkpoint
from utils.training.checkpointing import CheckpointScheduler
from utils.training.history import History
from utils.training.resume import is_finished, newest_checkpoint

MODEL = {
    "nc": 80,
    "depth_multiple": 0.33,
    "width_multiple": 0.125,
    "anchors": [[10, 13, 16, 30], [30, 61, 62, 45]],
    "backbone": [
        *([-1, 1, "Conv", [32, 6, 2, 2]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C3", [64]], [-1, 1, "nn.Dropout", [0.2]]),
        [-1, 1, "Conv", [128, 3, 2]],
    ],
    "head": [[-1, 1, "Conv", [128, 3, 2]], [[4, 5], 1, "Detect", ["nc", "anchors"]]],
}
"""With dropout, whose random state must be that of the batch."""
FAST = (
    "--imgsz",
    "64",
    "--batch-size",
    "2",
    "--epochs",
    "2",
    "--workers",
    "0",
    "--device",
    "cpu",
    "--noplots",
    "--exist-ok",
    "--keep-resume",
)


@pytest.fixture(scope="module")
def command(tiny_dataset, tmp_path_factory) -> list[str]:
    cfg = tmp_path_factory.mktemp("cfg") / "tiny.yaml"
    cfg.write_text(yaml.safe_dump(MODEL))
    return ["--cfg", str(cfg), "--data", str(tiny_dataset), *FAST]


@pytest.fixture(scope="module")
def straight(command, tmp_path_factory) -> Path:
    """Two epochs of four batches, undisturbed."""
    project = tmp_path_factory.mktemp("straight")
    train.main([*command, "--project", str(project)])
    LOG.handlers.clear()  # the test has an output of its own
    LOG.propagate = True
    return project / "exp"


@pytest.fixture
def finished(straight, tmp_path) -> Path:
    return shutil.copytree(straight, tmp_path / "exp")


def flat(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{where}.{key}")
    else:
        yield where, value.tolist() if isinstance(value, torch.Tensor) else value


def content(folder: Path) -> dict[str, Any]:
    last = load_checkpoint(folder / "weights" / "last.pt")
    last["resume"].pop("versions")
    parts = {k: last[k] for k in ("model", "ema", "resume", "epoch", "metrics")}
    return dict(flat(parts)) | {"best": dict(flat(load_checkpoint(folder / "weights" / "best.pt")["model"]))}


def assert_same(folder: Path, straight: Path) -> None:
    found, expected = content(folder), content(straight)
    assert [k for k in expected if found[k] != expected[k]] == []
    for name in ("results.csv", "metrics.json", "per_class.csv", "confusion_matrix.csv"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes(), name


def strike(patch: pytest.MonkeyPatch, owner: Any, name: str, count: int, number: int = signal.SIGUSR1) -> None:
    """Send this process a signal when a function is called for the `count`-th time."""
    function: Callable[..., Any] = getattr(owner, name)
    calls = []

    def struck(*args: Any, **settings: Any) -> Any:
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), number)
        return function(*args, **settings)

    patch.setattr(owner, name, struck)


@pytest.mark.parametrize(
    ("owner", "name", "count", "epoch", "batch"),
    [
        (engine, "prepare", 2, 0, 2),
        (engine, "prepare", 7, 1, 3),
        (engine, "prepare", 8, 1, 4),
        (evaluate, "_BatchDetector", 1, 0, 4),
        (Evaluator, "add", 2, 1, 0),
        (session, "open_splits", 1, 0, 0),
    ],
)
def test_stopped_anywhere_a_run_goes_on_to_the_bit(command, straight, tmp_path, monkeypatch, owner, name, count, epoch, batch):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with monkeypatch.context() as patch:
        strike(patch, owner, name, count)
        with pytest.raises(StopError, match=rf"stopped by SIGUSR1 in epoch {epoch} before batch {batch} of 4"):
            train.main([*command, "--project", str(tmp_path), "--save-interval", "0"])
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
    folder = tmp_path / "exp"
    payload = load_checkpoint(folder / "weights" / "last.pt")
    assert (payload["epoch"] + 1, payload["resume"]["batch"]) == (epoch, batch)
    assert not is_finished(payload)
    train.main(["--resume", str(folder), "--workers", str(count % 3)])
    assert_same(folder, straight)


def test_a_checkpoint_of_every_step_leads_to_the_same_end(command, straight, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    kept.mkdir()
    save = CheckpointScheduler._save

    def saving(scheduler: CheckpointScheduler) -> None:
        save(scheduler)
        shutil.copytree(tmp_path / "exp", kept / f"{scheduler._epoch}-{scheduler._batch}")

    monkeypatch.setattr(CheckpointScheduler, "_save", saving)
    train.main([*command, "--project", str(tmp_path), "--save-interval", "1e-9"])
    monkeypatch.undo()
    assert_same(tmp_path / "exp", straight)
    steps = ["0-1", "0-2", "0-4", "1-3", "1-4"]  # gradients of one, one, two, three and, at the epoch's end, one batch
    assert sorted(p.name for p in kept.iterdir()) == ["0-0", *steps]
    for place in ("0-1", "0-4", "1-3"):
        train.main(["--resume", str(kept / place)])
        assert_same(kept / place, straight)


def test_ctrl_c_twice(command, tmp_path, monkeypatch):
    strike(monkeypatch, engine, "prepare", 3, signal.SIGINT)
    strike(monkeypatch, engine, "prepare", 3, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train.main([*command, "--project", str(tmp_path), "--save-interval", "0"])
    assert load_checkpoint(tmp_path / "exp" / "weights" / "last.pt")["epoch"] == -1  # of the start
    assert not list((tmp_path / "exp").rglob("*.tmp"))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(finished, straight, capsys):
    weights = finished / "weights"
    damaged = bytearray((weights / "last.pt").read_bytes())
    damaged[5000] ^= 1
    (weights / "last.pt").write_bytes(damaged)
    assert newest_checkpoint(finished) == weights / "last.prev.pt"
    (finished / "metrics.json").unlink()
    (weights / ".last.pt.tmp").touch()
    train.main(["--resume", str(weights / "last.pt")])
    assert f"{weights / 'last.pt'} is damaged" in capsys.readouterr().out
    assert_same(finished, straight)
    assert sorted(p.name for p in weights.iterdir()) == ["best.pt", "last.damaged", "last.prev.pt", "last.pt"]
    for name in ("last.pt", "last.prev.pt"):
        (weights / name).write_bytes(damaged)
    assert newest_checkpoint(finished) is None
    with pytest.raises(UserError, match=r"no checkpoint in .* is intact \(last.pt, last.prev.pt\)"):
        train.main(["--resume", str(finished)])


@pytest.mark.parametrize("damaged", [b"damaged", b""])
def test_best_weights_that_are_lost_are_replaced(finished, damaged):
    path = finished / "weights" / "best.pt"
    path.write_bytes(damaged)
    (finished / "metrics.json").unlink()
    train.main(["--resume", str(finished)])
    assert load_checkpoint(path)["epoch"] == 1  # of the last epoch: no other weights are left
    path.write_bytes(damaged)
    train.main(["--resume", str(finished), "--epochs", "3"])
    assert load_checkpoint(path)["epoch"] == 2
    path.unlink()
    train.main(["--resume", str(finished), "--epochs", "4"])
    assert load_checkpoint(path)["epoch"] in (2, 3)


@pytest.mark.parametrize("best", [1, 2])
def test_the_best_weights_are_kept_when_their_row_cannot_be_written(command, tmp_path, monkeypatch, best):
    fitness, calls, flush = iter([0.9 if epoch == best else 0.1 for epoch in range(4)]), [], History.flush

    def full(history: History) -> None:
        calls.append(history)
        if len(calls) in (2, 3):  # in epochs 1 and 2
            raise StorageError("results.csv: no space")
        flush(history)

    monkeypatch.setattr(trainer, "fitness", lambda *_: next(fitness))
    monkeypatch.setattr(History, "flush", full)
    train.main([*command, "--project", str(tmp_path), "--epochs", "4"])
    assert load_checkpoint(tmp_path / "exp" / "weights" / "best.pt")["epoch"] == best
    assert [line.split(",")[0].strip() for line in (tmp_path / "exp" / "results.csv").read_text().splitlines()[1:]] == ["0", "1", "2", "3"]


def test_the_final_files_of_a_finished_run_are_made_up_for(finished, straight):
    (finished / "metrics.json").unlink()
    (finished / "per_class.csv").write_text("half of")
    assert is_finished(load_checkpoint(finished / "weights" / "last.pt"))
    train.main(["--resume", str(finished)])
    assert_same(finished, straight)
    with pytest.raises(UserError, match="all 2 epochs are done, nothing to resume"):
        train.main(["--resume", str(finished)])


def test_other_data_is_refused_unless_told_otherwise(command, finished, straight, tiny_dataset, tmp_path):
    data = shutil.copytree(tiny_dataset.parent, tmp_path / "moved") / "data.yaml"
    train.main(["--resume", str(finished), "--data", str(data), "--epochs", "3", "--project", str(tmp_path), "--name", "moved-data"])
    (data.parent / "images" / "train" / "00001.jpg").unlink()
    more = ["--resume", str(finished), "--data", str(data), "--epochs", "3"]
    with pytest.raises(UserError, match=r"train split has changed: 8 images before, 7 now.*--resume-anyway resumes"):
        train.main(more)
    assert not (finished / "resumed.txt").exists()
    train.main([*more, "--batch-size", "4", "--resume-anyway"])
    note = (finished / "resumed.txt").read_text()
    assert note.startswith(
        f"epoch 2, batch 0: resumed from {finished / 'weights' / 'last.pt'} although\n  --batch-size was 2 and is 4\n  the train split"
    )
    assert load_checkpoint(finished / "weights" / "last.pt")["config"]["batch_size"] == 4


def test_an_epoch_of_other_length_begins_anew(command, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        strike(patch, engine, "prepare", 7)
        with pytest.raises(StopError):
            train.main([*command, "--project", str(tmp_path)])
    train.main(["--resume", str(tmp_path / "exp"), "--batch-size", "4", "--resume-anyway"])
    assert "an epoch has 2 batches and had 4; epoch 1 starts again" in capsys.readouterr().out
    assert len((tmp_path / "exp" / "results.csv").read_text().splitlines()) == 3


def test_two_trainings_in_one_folder(command, finished):
    with folder_lock(finished):
        for flags in (["--resume", str(finished), "--epochs", "3"], [*command, "--project", str(finished.parent)]):
            with pytest.raises(
                UserError, match=f"{finished} is in use by process {os.getpid()} on .*; wait, stop it, or give another --name"
            ):
                train.main(flags)
    with pytest.raises(UserError, match="all 2 epochs are done"):
        train.main(["--resume", str(finished)])


def test_the_newest_run_goes_on_where_it_is(finished, tmp_path):
    train.main(["--resume", "--project", str(tmp_path), "--epochs", "3"])
    assert len((finished / "results.csv").read_text().splitlines()) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["exp"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("names", ["a"]),
        ("model", {}),
        ("model", {"x": torch.zeros(1)}),
        ("ema", None),
        ("optimizer", {}),
        ("optimizer", {"state": {}, "param_groups": []}),
        ("data", {"other": {}}),
        ("data", [1]),
        ("updates", "x"),
        ("sums", [["x"]]),
    ],
)
def test_state_that_does_not_fit_is_refused(finished, tmp_path, part, value):
    payload = load_checkpoint(finished / "weights" / "last.pt")
    (payload if part in payload else payload["resume"])[part] = value
    payload["resume"]["batch"], payload["epoch"] = 2, 0
    save_checkpoint(tmp_path / "strange.pt", payload)
    with pytest.raises(UserError, match=r"strange\.pt: (its|invalid) .*; start from it with --weights"):
        train.main(["--resume", str(tmp_path / "strange.pt")])


def test_going_on_from_an_earlier_checkpoint_is_saved_before_its_rows_are_cut(command, tmp_path, monkeypatch):
    train.main([*command, "--project", str(tmp_path), "--save-period", "1"])
    folder = tmp_path / "exp"
    with monkeypatch.context() as patch:
        strike(patch, engine, "prepare", 1, signal.SIGINT)
        strike(patch, engine, "prepare", 1, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train.main(["--resume", str(folder / "weights" / "epoch0.pt")])
    train.main(["--resume", str(folder)])
    assert [line.split(",")[0].strip() for line in (folder / "results.csv").read_text().splitlines()[1:]] == ["0", "1"]


def test_settings_given_to_a_resumed_run_outlast_a_kill(finished, monkeypatch):
    with monkeypatch.context() as patch:
        strike(patch, engine, "prepare", 1, signal.SIGINT)
        strike(patch, engine, "prepare", 1, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train.main(["--resume", str(finished), "--epochs", "3"])
    train.main(["--resume", str(finished)])
    assert len((finished / "results.csv").read_text().splitlines()) == 4


def test_a_folder_without_a_checkpoint(tmp_path):
    (tmp_path / "exp" / "weights").mkdir(parents=True)
    with pytest.raises(UserError, match=r"contains no checkpoint, as its run stopped before the first; start it again \(--exist-ok\)"):
        train.main(["--resume", str(tmp_path / "exp")])
