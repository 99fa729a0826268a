"""Where a model YAML is found, and what lies in the working folder."""

from __future__ import annotations

import logging

import pytest

from models.spec.model_spec import ModelSpec
from utils.config import ROOT, load_hyp
from utils.errors import UserError

OTHER = "nc: 2\nanchors: 3\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n  - [[0, 0, 0], 1, Detect, [nc, anchors]]\n"


def test_what_ships_refers_to_what_ships(tmp_path, monkeypatch):
    expected = ModelSpec.from_yaml("yolov5s-ca.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolov5s.yaml").write_text(OTHER)
    assert ModelSpec.from_yaml("yolov5s-ca.yaml").rows == expected.rows
    assert ModelSpec.from_yaml(ROOT / "models" / "yolov5s-ca.yaml").rows == expected.rows


def test_a_file_that_shadows_a_shipped_one_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolov5s.yaml").write_text(OTHER)
    (tmp_path / "hyp.scratch-low.yaml").write_text("lr0: 0.5\n")
    with caplog.at_level(logging.WARNING, "attune"):
        assert len(ModelSpec.from_yaml("yolov5s.yaml").rows) == 2
        assert load_hyp("hyp.scratch-low.yaml").lr0 == 0.5
    assert [
        f"{tmp_path / name} is used" in record.getMessage()
        for name, record in zip(("yolov5s.yaml", "hyp.scratch-low.yaml"), caplog.records, strict=True)
    ] == [True, True]


def test_a_base_beside_its_file_comes_before_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text(OTHER)
    (tmp_path / "models" / "variant.yaml").write_text("base: mine.yaml\nedits: []\n")
    (tmp_path / "mine.yaml").write_text(OTHER.replace("16, 3, 2", "64, 3, 2"))
    monkeypatch.chdir(tmp_path)
    assert ModelSpec.from_yaml("models/variant.yaml").rows[0].args[0] == 16


def test_a_folder_that_is_not_there_is_no_other_folder(tmp_path, monkeypatch):
    """Neither of the shipped files of this name, and of its other sizes, is what was asked for."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine/yolov5s.yaml", "mine/yolov5m-ca.yaml"):
        with pytest.raises(UserError, match=f"no file '{name}'"):
            ModelSpec.from_yaml(name)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/yolov5n-ca.yaml").write_text(OTHER)
    assert len(ModelSpec.from_yaml("mine/yolov5m-ca.yaml").rows) == 2


@pytest.mark.parametrize("factor", [64, 1_000_000])
def test_upsampling_is_refused_before_it_takes_memory(tmp_path, factor):
    from models import build_model

    row = f"\n  - [-1, 1, nn.Upsample, [null, {factor}, nearest]]"
    (tmp_path / "a.yaml").write_text(OTHER.replace("[16, 3, 2]]", "[16, 3, 2]]" + row * 2))
    with pytest.raises(UserError, match="numbers for a small image"):
        build_model(tmp_path / "a.yaml")
