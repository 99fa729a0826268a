"""Resuming an untrusted checkpoint: none of its settings may run a program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from utils.config import Hyp, TrainConfig
from utils.errors import UserError
from utils.training.checkpoint import load_checkpoint, save_checkpoint
from utils.training.resume import read_stopped


def checkpoint(folder: Path, **settings: Any) -> Path:
    config = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(TrainConfig(epochs=5)).items()}
    (folder / "weights").mkdir(exist_ok=True)
    resume = {"best": 0.0, "best_epoch": 0}
    payload = {"config": {**config, **settings}, "hyp": dataclasses.asdict(Hyp()), "resume": resume, "epoch": 1}
    save_checkpoint(folder / "weights" / "last.pt", payload)
    return folder / "weights" / "last.pt"


def test_plug_ins_of_a_checkpoint_must_be_named_again(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, plugins=["evil.py"])
    with pytest.raises(UserError, match=r"plug-ins, which are programs; if you trust them, name them: --plugins evil\.py"):
        read_stopped(path, TrainConfig(resume=str(path)), Hyp(), frozenset({"resume"}), {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epochs", "5"), ("epochs", 5.0), ("epochs", True), ("plugins", 5), ("plugins", "evil.py"), ("plugins", [1]), ("project", 3)),
        *(("rect", 1), ("classes", [1.5]), ("classes", "1"), ("label_smoothing", "x"), ("weights", None), ("freeze", [[0]])),
    ],
)
def test_settings_of_another_type(tmp_path: Path, name: str, value: Any) -> None:
    path = checkpoint(tmp_path, **{name: value})
    with pytest.raises(UserError, match=f"invalid settings \\({name}.* is"):
        read_stopped(path, TrainConfig(resume=str(path)), Hyp(), frozenset({"resume"}), {})


@pytest.mark.parametrize(
    ("part", "value"),
    [("config", []), ("hyp", 3), ("resume", [1]), ("epoch", "1"), ("epoch", 1 << 40), ("resume", {"best": "x", "best_epoch": 0})],
)
def test_parts_of_another_kind(tmp_path: Path, part: str, value: Any) -> None:
    path = checkpoint(tmp_path)
    save_checkpoint(path, load_checkpoint(path) | {part: value})
    with pytest.raises(UserError, match="invalid field"):
        read_stopped(path, TrainConfig(resume=str(path)), Hyp(), frozenset({"resume"}), {})
