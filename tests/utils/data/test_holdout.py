"""Holding a validation part out of the training images."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.data.config import load_data
from utils.data.holdout import HoldoutConfig, held_out, write_holdout
from utils.data.scan import load_index
from utils.data.shapes import write_dataset
from utils.errors import UserError


def test_every_training_image_goes_to_one_side(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", {"train": 10, "test": 2}, size=64)
    before = {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    path = write_holdout(HoldoutConfig(data=str(tmp_path / "data"), out=str(tmp_path / "out"), share=0.3))
    data = load_data(path)
    train, val, test = (load_index(data, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (7, 3, 2)
    assert {p.name for p in (*train.paths, *val.paths)} == {f"{i:05d}.jpg" for i in range(10)}
    whole = load_index(load_data(tmp_path / "data", complete=False), "train")
    assert len(train.annotations) + len(val.annotations) == len(whole.annotations) > 0
    assert data.names == whole.names
    assert before == {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}


def test_the_choice_is_the_seeds_and_stays_when_an_image_goes() -> None:
    paths = [Path(f"{i}.jpg") for i in range(100)]
    chosen = held_out(paths, 0.2, 0)
    assert len(chosen) == 20
    assert held_out(paths[::-1], 0.2, 0) == chosen != held_out(paths, 0.2, 1)
    assert len(held_out(paths[:-10], 0.2, 0) & chosen) >= 15
    assert len(held_out(paths[:2], 0.01, 0)) == len(held_out(paths[:2], 0.99, 0)) == 1


def test_refuses_what_it_cannot_do(tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match="already has a val split"):
        write_holdout(HoldoutConfig(data=str(tiny_dataset), out=str(tmp_path / "out")))
    with pytest.raises(UserError, match="between 0 and 1"):
        HoldoutConfig(data="x", share=1.0)
    with pytest.raises(UserError, match="name a dataset"):
        HoldoutConfig()
    write_dataset(tmp_path / "data", {"train": 3, "test": 1}, size=64)
    with pytest.raises(UserError, match="already exists"):
        write_holdout(HoldoutConfig(data=str(tmp_path / "data"), out=str(tmp_path)))
