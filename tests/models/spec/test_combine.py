"""Variants of one base combined: the edits of both, where they do not meet."""

from __future__ import annotations

import pytest

from models.spec.model_spec import ModelSpec, base_of
from utils.errors import UserError


def test_a_combination_has_the_edits_of_both():
    """As the variant that a user would write by hand, in another size than the files have; row identities are those of each alone."""
    both = ModelSpec.from_yaml("yolov5n-ca+gnconv")
    edits = [{"after": k, "insert": [1, "CoordAtt", [32]]} for k in (4, 6, 9)]
    edits += [{"after": k, "insert": [1, "GnConv", [order]], "gate": "zero"} for k, order in ((17, 3), (20, 4), (23, 5))]
    assert both == ModelSpec.from_dict({"base": "yolov5n.yaml", "edits": edits}, "by hand")
    ca, gnconv = (ModelSpec.from_yaml(f"yolov5n-{name}.yaml") for name in ("ca", "gnconv"))
    assert {row.origin for row in both.rows} == {row.origin for spec in (ca, gnconv) for row in spec.rows}
    assert base_of("yolov5n-ca+gnconv.yaml") == ModelSpec.from_yaml("yolov5n")
    assert ModelSpec.from_yaml("models/yolov5n-ca.yaml+models/yolov5n-gnconv.yaml") == both
    assert len(ModelSpec.from_yaml("yolov5s-ca+gnconv+decoupled").rows) == 31


def test_an_insertion_follows_what_replaces_its_row():
    for name in ("yolov5s-ca+cot", "yolov5s-cot+ca"):
        names = [row.name for row in ModelSpec.from_yaml(name).rows]
        assert [names[k + 1] for k, row in enumerate(names) if row == "C3CoT"] == ["CoordAtt", "SPPF"]


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    (tmp_path / "yolov5n-ca+se.yaml").write_text("base: yolov5n.yaml\nedits: []\n")
    monkeypatch.chdir(tmp_path)
    assert len(ModelSpec.from_yaml("yolov5n-ca+se").rows) == 25


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolov5n-ca+se", "yolov5n-ca and yolov5n-se do not combine: after 4 in one meets after 4 in the other; write the edits"),
        ("yolov5n-dfl+decoupled", "yolov5n-dfl and yolov5n-decoupled do not combine: replace 24 in one meets replace 24 in the other"),
        ("yolov5n-ca+ca", "name each variant of one base once"),
        ("yolov5n-ca+", "name each variant of one base once"),
        ("yolov5n+ca", "name each variant of one base once"),
        ("yolov5n-ca+gnconf", "no file 'yolov5n-gnconf.yaml'"),
        ("a.yaml+yolov5s-ca.yaml", "a and yolov5s-ca do not combine: they edit yolov5n.yaml and yolov5s.yaml; combine variants"),
        ("yolov5n-ca.yaml+a.yaml+b.yaml", "a and b do not combine: activation is 'ReLU' in one and 'SiLU' in the other"),
        ("yolov5n-ca.yaml+c.yaml", "c has no 'base', so it does not combine"),
        ("yolov5n-ca.yaml+d.yaml", "'edits' is a list of edits"),
        ("yolov5n-ca.yaml+e.yaml", "after 9 in one meets remove 9 in the other"),
    ],
)  # fmt: skip
def test_variants_that_do_not_combine(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("base: yolov5n.yaml\nactivation: ReLU\n")
    (tmp_path / "b.yaml").write_text("base: yolov5n.yaml\nactivation: SiLU\n")
    (tmp_path / "c.yaml").write_text("nc: 2\nbackbone: []\nhead: []\n")
    (tmp_path / "d.yaml").write_text("base: yolov5n.yaml\nedits: [1]\n")
    (tmp_path / "e.yaml").write_text("base: yolov5n.yaml\nedits: [{remove: 9}]\n")
    with pytest.raises(UserError) as error:
        ModelSpec.from_yaml(name)
    assert message in str(error.value)
