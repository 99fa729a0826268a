"""Blocks that fade in for those they replace: their schedule, and a run that stops, goes on and ends with the new block alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

import train
from models.weights.load import load_model
from tests.tiny_model import TINY
from utils.config import Hyp
from utils.training.checkpoint import load_checkpoint
from utils.training.optim import Schedule

FAST = ("--imgsz", "64", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--noplots", "--keep-resume", "--save-period", "1")


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"), [(5, 2, [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1]), (1, 2, [0, 1]), (1, 1, [0])]
)
def test_the_gate_rises_over_six_tenths_of_the_steps(epochs: int, steps: int, expected: list[float]) -> None:
    schedule = Schedule(Hyp(), epochs, steps, 4)
    assert [schedule.fade(step) for step in range(epochs * steps)] == pytest.approx(expected)


@pytest.fixture(scope="module")
def run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs of two steps: the gate is 0, .25, .5, .75, 1, 1, 1, 1."""
    folder = tmp_path_factory.mktemp("fade")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    edit = {"replace": 2, "with": [1, "C3CoT", [64]], "gate": "zero"}
    (folder / "gated.yaml").write_text(yaml.safe_dump({"base": "tiny.yaml", "edits": [edit]}))
    flags = ["--cfg", str(folder / "gated.yaml"), "--data", str(tiny_dataset), "--project", str(folder / "runs"), "--epochs", "4", *FAST]
    train.main(flags)
    return folder / "runs" / "exp"


def test_the_best_epoch_is_one_after_the_fade_and_holds_the_new_block_alone(run: Path) -> None:
    best, last = load_checkpoint(run / "weights" / "best.pt"), load_checkpoint(run / "weights" / "last.pt")
    gates = [float(load_checkpoint(run / "weights" / f"epoch{e}.pt")["ema"]["model.2.g"]) for e in range(4)]
    assert gates == [0.25, 0.75, 1, 1]
    assert best["epoch"] >= 2
    assert "replaced" in last["spec"]
    assert "replaced" not in best["spec"]
    assert not [k for k in best["model"] if ".old." in k or ".new." in k or k.endswith(".g")]
    both, alone = (load_model(run / "weights" / f"{name}.pt", fuse=False) for name in (f"epoch{best['epoch']}", "best"))
    x = torch.rand(2, 3, 64, 64)
    assert type(alone.model[2]).__name__ == "C3CoT"
    assert torch.allclose(both(x), alone(x), atol=1e-5)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_resumed_fade_equals_the_straight_one_to_the_bit(run: Path, tmp_path: Path, epoch: int) -> None:
    stopped = Path(shutil.copytree(run, tmp_path / "exp"))
    shutil.copy(stopped / "weights" / f"epoch{epoch}.pt", stopped / "weights" / "last.pt")
    train.main(["--resume", str(stopped)])
    expected, found = (load_checkpoint(folder / "weights" / "last.pt") for folder in (run, stopped))
    for part in ("model", "ema"):
        assert [k for k, v in expected[part].items() if not torch.equal(v, found[part][k])] == []
    assert (stopped / "results.csv").read_bytes() == (run / "results.csv").read_bytes()
