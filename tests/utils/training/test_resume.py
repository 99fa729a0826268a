"""Resuming an untrusted checkpoint: none of its settings may run a program."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from utils.config import Hyp, TrainConfig
from utils.errors import UserError
from utils.training.checkpoint import load_checkpoint, save_checkpoint
from utils.training.resume import StoppedRun, locate, read_stopped
from utils.versions import file_digest


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
        *(("optimizer", "Evil"), ("amp", "x"), ("cache", "../../x")),
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


def test_an_edited_plug_in_is_refused(tmp_path: Path) -> None:
    plugin = tmp_path / "block.py"
    plugin.write_text("a = 1\n")
    path = checkpoint(tmp_path, plugins=[str(plugin)])
    payload = load_checkpoint(path)
    save_checkpoint(path, payload | {"resume": payload["resume"] | {"plugins": {str(plugin): file_digest(plugin)}}})

    def read(**more: Any) -> StoppedRun:
        config = TrainConfig(resume=str(path), plugins=(str(plugin),), **more)
        return read_stopped(path, config, Hyp(), frozenset({"resume", "plugins"}), {})

    assert not read().changes
    plugin.write_text("a = 2\n")
    with pytest.raises(UserError, match=r"plug-in .*block\.py was edited"):
        read()
    assert "was edited" in read(resume_anyway=True).changes[0]


@pytest.mark.parametrize(
    ("name", "value"), [("ap", "x"), ("ap", ["x"]), ("ap", 5), ("versions", []), ("versions", {"torch": 1}), ("plugins", 3)]
)
def test_state_of_another_kind(tmp_path: Path, name: str, value: Any) -> None:
    path = checkpoint(tmp_path)
    payload = load_checkpoint(path)
    save_checkpoint(path, payload | {"resume": payload["resume"] | {name: value}})
    with pytest.raises(UserError, match=f"invalid field '{name}'"):
        read_stopped(path, TrainConfig(resume=str(path)), Hyp(), frozenset({"resume"}), {})


def test_the_checkpoint_does_not_say_where_to_write(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, project="/elsewhere", name="../../x", exist_ok=True)
    loose = tmp_path / "loose.pt"
    loose.write_bytes(path.read_bytes())
    for given, config, expected in (
        (path, TrainConfig(resume=str(path)), (str(tmp_path.parent), tmp_path.name)),
        (loose, TrainConfig(resume=str(loose)), ("runs/train", "exp")),
    ):
        found = read_stopped(given, config, Hyp(), frozenset({"resume"}), {}).config
        assert (found.project, found.name, found.exist_ok) == (*expected, False)


def test_a_run_on_another_disk_is_the_newest(tmp_path: Path) -> None:
    for name, place in (("old", tmp_path / "runs" / "exp"), ("new", tmp_path / "disk" / "exp2")):
        place.mkdir(parents=True)
        os.utime(checkpoint(place), (1, 1) if name == "old" else None)
    (tmp_path / "runs" / "exp2").symlink_to(tmp_path / "disk" / "exp2")
    assert locate(TrainConfig(resume="newest", project=str(tmp_path / "runs"))) == tmp_path / "runs" / "exp2"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "x" * 256])
def test_a_path_that_is_none(name: str) -> None:
    with pytest.raises(UserError, match="is no path"):
        locate(TrainConfig(resume=name))
