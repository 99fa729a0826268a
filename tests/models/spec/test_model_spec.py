"""Model YAML: what is read, what is found by name, and what the messages say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from models.spec.model_spec import ModelSpec
from utils.config import ROOT
from utils.errors import UserError

MODELS = sorted([*(ROOT / "models").glob("*.yaml"), *(ROOT / "models" / "zoo").glob("*.yaml")])
SMALL: dict[str, Any] = {
    "nc": 2,
    "anchors": [[10, 13], [30, 61]],
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[0, 1], 1, "Detect", ["nc", "anchors"]]],
}


def small(**changes: Any) -> ModelSpec:
    return ModelSpec.from_dict({**SMALL, **changes}, "small")


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_plain_data_gives_the_same_spec(path: Path) -> None:
    spec = ModelSpec.from_yaml(path)
    plain = spec.to_dict()
    assert ModelSpec.from_dict(yaml.safe_load(yaml.safe_dump(plain)), "again") == spec


def test_a_variant_with_gate_and_keywords_survives_plain_data(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("base: yolov5n.yaml\nedits: [{after: 9, insert: [1, CoordAtt, {reduction: 16}], gate: zero}]")
    spec = ModelSpec.from_yaml(tmp_path / "v.yaml")
    assert spec.rows[10].keywords == {"reduction": 16}
    again = ModelSpec.from_dict(spec.to_dict(), "again")
    assert again == spec
    assert again.rows[10].gate == "zero"
    assert again.rows[10].origin == "9+CoordAtt"


def test_a_name_is_looked_up_in_models_and_in_the_zoo() -> None:
    assert ModelSpec.from_yaml("yolov5s") == ModelSpec.from_yaml("yolov5s.yaml") == ModelSpec.from_yaml(ROOT / "models" / "yolov5s.yaml")
    assert len(ModelSpec.from_yaml("yolov3-tiny").rows) == 21


def test_a_size_letter_needs_no_file() -> None:
    m, base = ModelSpec.from_yaml("yolov5m-ca"), ModelSpec.from_yaml("yolov5m")
    assert m.scale == base.scale
    assert [row for row in m.rows if row.name != "CoordAtt"][9].origin == base.rows[9].origin
    assert [row.origin for row in m.rows] == [row.origin for row in ModelSpec.from_yaml("yolov5s-ca.yaml").rows]
    assert ModelSpec.from_yaml("yolov5n-ghost.yaml").scale == ModelSpec.from_yaml("yolov5n").scale
    assert ModelSpec.from_yaml("yolov5x-p2").scale == ModelSpec.from_yaml("yolov5x").scale
    assert ModelSpec.from_yaml("yolov5n-bifpn").rows[19].sources == (18, 14, 6)


def test_a_size_letter_works_in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yolov5s6-x.yaml").write_text("base: yolov5s6.yaml\nedits: [{after: 11, insert: [1, CoordAtt, []]}]")
    assert ModelSpec.from_yaml(tmp_path / "yolov5n6-x.yaml").scale == ModelSpec.from_yaml("yolov5n6").scale
    monkeypatch.chdir(tmp_path)
    assert len(ModelSpec.from_yaml("yolov5l6-x").rows) == 35


def test_a_base_lies_beside_its_variant_or_in_models(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SMALL))
    (tmp_path / "variant.yaml").write_text("base: mine.yaml\nnc: 5\nedits: [{after: 0, insert: [1, CoordAtt, []]}]")
    (tmp_path / "third.yaml").write_text("base: variant.yaml\nedits: [{remove: 1}]\nactivation: nn.ReLU()")
    assert ModelSpec.from_yaml(tmp_path / "variant.yaml").nc == 5
    third = ModelSpec.from_yaml(tmp_path / "third.yaml")
    assert (third.nc, third.activation, len(third.rows)) == (5, "nn.ReLU()", 3)


def test_anchors_may_be_pairs_or_a_number() -> None:
    assert small(anchors=[[[10, 13]], [[30, 61]]]) == small()
    assert small(anchors=3).anchors == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"depht_multiple": 1}, "small: unknown key 'depht_multiple'; did you mean 'depth_multiple'?"),
        ({"nc": 0}, "'nc' is a positive integer, not 0"),
        ({"nc": "80"}, "'nc' is a positive integer, not '80'"),
        ({"nc": 10**9}, "'nc' is a positive integer, not 1000000000"),
        ({"rows": 5}, "unknown key 'rows'"),
        ({"rows": []}, "unknown key 'rows'"),
        ({"width_multiple": -1}, "'width_multiple' is a positive number, not -1"),
        ({"width_multiple": float("nan")}, "'width_multiple' is a positive number"),
        ({"ch": True}, "'ch' is a positive integer"),
        ({"activation": 3}, "'activation' is text"),
        ({"anchors": [[10, 13], [30]]}, r"level 1 is \[30\]"),
        ({"anchors": [[10, 13], [30, 61, 5, 6]]}, "every level needs as many anchors; level 0 has 1, level 1 2"),
        ({"anchors": [[10, -13], [30, 61]]}, "level 0 is"),
        ({"anchors": "3"}, "'anchors' is a number per level or a list"),
        ({"anchors": 0}, "'anchors' is 1 to 100 per level, not 0"),
        ({"names": {1: "a"}}, "counts its classes from 0"),
        ({"backbone": {"a": 1}}, "'backbone' is a list of rows, not dict"),
        ({"backbone": [], "head": []}, "expected a list of rows"),
        ({"backbone": [[-1, 1, "Conv"]]}, r"small: row 0: expected \[from, repeats, module, args\], found \[-1, 1, 'Conv'\]"),
        ({"backbone": [[-1, 1.5, "Conv", []]]}, r"row 0 \(Conv\): repeats must be an integer"),
        ({"backbone": [[5, 1, "Conv", [8]]]}, r"row 0 \(Conv\): 'from' 5 is not before it"),
        ({"backbone": [[-2, 1, "Conv", [8]]]}, "'from' -2 is before the first row"),
        ({"backbone": [["-1", 1, "Conv", [8]]]}, "'from' is a row number or a list of them, not '-1'"),
        ({"edits": []}, "has 'edits' but no 'base'"),
        ({"base": "yolov5s.yaml"}, "has both 'base' and 'backbone'"),
        ({"gates": ["zero"]}, "'gates' is a list of 3 strings"),
    ],
)
def test_messages(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        small(**changes)


def test_a_missing_file_gives_the_nearest_and_what_was_tried() -> None:
    with pytest.raises(UserError, match=r"no file 'yolov5s-transfomer.yaml'; did you mean 'yolov5s-transformer.yaml'\? \(tried .*zoo"):
        ModelSpec.from_yaml("yolov5s-transfomer")


@pytest.mark.parametrize(("name", "says"), [("", "is a folder"), (".", "is a folder"), ("x" * 400, "no file 'xxx")])
def test_a_name_that_no_file_can_have(name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        ModelSpec.from_yaml(name)


@pytest.mark.parametrize(
    "content", ["base: b.yaml", "base: 7", "base: nowhere.yaml", "- 1", "a: [", "!!python/object/apply:os.getcwd []", "\x00"]
)
def test_a_broken_file_is_one_message(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    with pytest.raises(UserError) as error:
        ModelSpec.from_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(error.value)
