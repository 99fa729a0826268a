"""Own checkpoints: written atomically, and the smallest damage is detected."""

from __future__ import annotations

import os
import random
import resource
import stat
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from utils.errors import UserError
from utils.training.checkpoint import is_checkpoint, load_checkpoint, save_checkpoint


@pytest.fixture
def payload() -> dict[str, Any]:
    return {
        "spec": {"rows": [[-1, 1, "Conv", [16, None]]], "scale": (0.33, 0.25)},
        "names": {0: "cat", 1: "dog"},
        "model": OrderedDict({"w": torch.arange(6.0).view(2, 3).t(), "n": torch.tensor(3)}),
        "ema": {"w": torch.full((3, 2), 0.5), "n": torch.tensor(4)},
        "resume": {"optimizer": {"state": {0: {"momentum": torch.ones(2)}}}, "random": torch.get_rng_state(), "half": torch.ones(1).half()},
        "epoch": 7,
        "metrics": {"ap": 0.25},
    }


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_comes_back_as_it_was(tmp_path: Path, payload: dict[str, Any]) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, payload)
    assert same(load_checkpoint(path), {"attune": 1, **payload})
    assert same(torch.load(path, weights_only=True), {"attune": 1, **payload})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    assert names(tmp_path) == ["last.pt"]


def test_saving_again_keeps_the_permissions(tmp_path: Path, payload: dict[str, Any]) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    path.chmod(0o640)
    save_checkpoint(path, payload)
    assert load_checkpoint(path)["epoch"] == 7
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_every_flip_and_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"model": {"w": torch.arange(40.0)}, "epoch": 3})
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(100):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        for damaged in (flipped, whole[: draw.randrange(len(whole))], whole + b"\0"):
            path.write_bytes(damaged)
            with pytest.raises(UserError, match="not an intact checkpoint"):
                load_checkpoint(path)


def test_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: dict[str, Any]) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    old = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(UserError, match=r"No space left.*the previous file is unchanged"):
                save_checkpoint(path, payload)
        assert path.read_bytes() == old
        assert names(tmp_path) == ["last.pt"]
    with pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(tmp_path / "nowhere" / "last.pt", payload)


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_file_that_may_not_grow(tmp_path: Path, size: int) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written \(\[Errno 27\]"):
            save_checkpoint(path, {"model": {f"w{i}": torch.ones(100) for i in range(100)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path)["epoch"] == 1
    assert names(tmp_path) == ["last.pt"]


def test_what_a_kill_left_behind_is_overwritten(tmp_path: Path, payload: dict[str, Any]) -> None:
    (tmp_path / ".last.pt.tmp").write_bytes(b"half of it")
    save_checkpoint(tmp_path / "last.pt", payload)
    assert names(tmp_path) == ["last.pt"]


@pytest.mark.parametrize(
    "value", [Path("x"), np.float64(1), np.zeros(2), {1, 2}, {(1, 2): 3}, b"raw", object(), torch.zeros(1).expand(3), torch.nn.Linear(1, 1)]
)
def test_refuses_to_save_what_would_not_load(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=r"checkpoint\['config'\]\[0\]"):
        save_checkpoint(tmp_path / "last.pt", {"config": [value]})
    assert not names(tmp_path)


def test_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)
    torch.save({"attune": 1}, path)
    with pytest.raises(UserError, match="not an intact checkpoint"):
        load_checkpoint(path)
    monkeypatch.setattr("utils.training.checkpoint.VERSION", 2)
    save_checkpoint(path, {})
    monkeypatch.undo()
    with pytest.raises(UserError, match="checkpoint version 2 is not supported"):
        load_checkpoint(path)


def test_tells_a_checkpoint_by_its_beginning(tmp_path: Path, payload: dict[str, Any]) -> None:
    path = tmp_path / "x.pt"
    assert not is_checkpoint(path)
    assert not is_checkpoint(tmp_path)
    torch.save({"model": 1, "attune": 1}, path)
    assert not is_checkpoint(path)
    save_checkpoint(path, payload)
    assert is_checkpoint(path)
    path.write_bytes(path.read_bytes()[:-5])
    assert is_checkpoint(path)
