"""Transfer by structure: what still exists gets its weights, wherever it stands now, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from models import build_model
from models.detector import Detector
from models.spec.model_spec import ModelSpec
from models.weights.load import Weights, load_model, read_weights
from models.weights.transfer import TransferReport, transfer
from utils.config import ROOT
from utils.files.yaml_file import read_yaml

NANO = read_yaml(ROOT / "models" / "yolov5n.yaml")


@pytest.fixture(scope="module")
def base() -> Weights:
    """Weights of a yolov5n other than any that a test builds."""
    return weights_of(build_model("yolov5n", seed=7))


def weights_of(model: Detector) -> Weights:
    state = {key: tensor + 1 for key, tensor in model.state_dict().items()}
    return Weights(state=state, spec=model.spec, names=model.names, nc=model.nc, source=Path("runs/base.pt"))


def variant(*edits: dict[str, Any], **settings: Any) -> Detector:
    return build_model({"base": "yolov5n.yaml", "edits": list(edits), **settings})


def classic(rows: list[Any]) -> Detector:
    """A table as users write it by hand: resolved anew, identities are plain numbers."""
    return build_model({**NANO, "backbone": rows[:-1], "head": rows[-1:]})


def table() -> list[Any]:
    return [list(row) for row in (*NANO["backbone"], *NANO["head"])]


def pairs(report: TransferReport) -> list[int | None]:
    return [row.source for row in report.rows]


def check_copied(model: Detector, weights: Weights, report: TransferReport) -> None:
    """Each row equals the row that the report names."""
    own = model.state_dict()
    for row in report.rows:
        for key, tensor in own.items():
            if row.source is not None and key.startswith(f"model.{row.index}.") and not row.misfits and not row.new:
                assert torch.equal(tensor, weights.state[key.replace(f".{row.index}.", f".{row.source}.", 1)])


def test_itself(base: Weights) -> None:
    model = build_model("yolov5n", seed=1)
    report = transfer(model, base)
    assert (report.transferred, report.total, report.lost) == (349, 349, 0)
    assert all(torch.equal(tensor, base.state[key]) for key, tensor in model.state_dict().items())
    assert report.summary() == "transferred 349/349 tensors of base.pt"


def test_insertion_shifts_every_number(base: Weights) -> None:
    model = variant({"after": 2, "insert": [1, "CoordAtt", [32]]}, {"after": 9, "insert": [1, "CoordAtt", [32]], "gate": "zero"})
    report = transfer(model, base)
    assert pairs(report) == [0, 1, 2, None, *range(3, 10), None, *range(10, 25)]
    assert (report.transferred, report.total) == (349, 349)
    assert report.summary() == "transferred 349/349 tensors of base.pt; 23 new in 2 rows"
    check_copied(model, base, report)


def test_official_weights_into_the_shipped_variant(shared: Path) -> None:
    weights = read_weights(shared / "yolov5n.pt")
    assert transfer(build_model("yolov5n-ca"), weights).summary() == "transferred 349/349 tensors of yolov5n.pt; 33 new in 3 rows"
    report = transfer(build_model("yolov5n-ca", nc=3), weights)
    assert (report.transferred, report.total) == (343, 349)
    assert report.summary().endswith("; 6 not fitting (6x classes 80 -> 3)")
    assert "  27   24 Detect                            1     0  6x classes 80 -> 3" in str(report).splitlines()


def test_twins_are_told_apart_by_identity(base: Weights) -> None:
    """Inserted rows of the very shape of their neighbour: only the identity says which of the two is the base's."""
    report = transfer(model := variant({"after": 4, "insert": [6, "C3", [256]]}), base)
    assert pairs(report) == [*range(5), None, *range(5, 25)]
    check_copied(model, base, report)


def test_replaced_row_keeps_what_fits(base: Weights) -> None:
    report = transfer(variant({"replace": 8, "with": [3, "C3TR", [1024]]}), base)
    row = report.rows[8]
    assert pairs(report) == list(range(25))
    assert (row.source, row.module) == (8, "C3TR for C3")
    assert row.transferred == 18  # cv1, cv2, cv3 of 6 tensors each
    assert row.new > 0
    assert report.transferred == 349 - 12  # the bottleneck's two convolutions


def test_removed_row(base: Weights) -> None:
    report = transfer(variant({"remove": 8}), base)
    assert pairs(report) == [*range(8), *range(9, 25)]
    assert (report.transferred, report.lost) == (319, 30)
    assert "30 of rows that this model does not have" in report.summary()


@pytest.mark.parametrize("at", [0, 4, 9, 13, 23])
def test_classic_table_with_a_row_put_in_by_hand(base: Weights, at: int) -> None:
    rows = table()
    rows.insert(at + 1, [-1, 1, "CoordAtt", [32]])
    for row in rows[at + 2 :]:
        sources = row[0] if isinstance(row[0], list) else [row[0]]
        row[0] = [s + 1 if s >= at else s for s in sources]
    report = transfer(model := classic(rows), base)
    assert pairs(report) == [*range(at + 1), None, *range(at + 1, 25)]
    assert (report.transferred, report.total) == (349, 349)
    check_copied(model, base, report)


def test_variant_weights_into_the_base_and_another_variant() -> None:
    attention = {"after": 8, "insert": [1, "CoordAtt", [32]]}
    weights = weights_of(variant(attention))
    report = transfer(build_model("yolov5n"), weights)
    assert (report.transferred, report.lost, report.total) == (349, 11, 360)
    report = transfer(variant({"after": 2, "insert": [1, "CoordAtt", [32]]}, attention), weights)
    assert (report.transferred, report.lost) == (360, 0)
    assert report.rows[3].source is None


def test_another_size_is_not_taken_for_a_shifted_one(base: Weights) -> None:
    """Each layer of yolov5s has the shape of a layer one level further down in yolov5n; it is no such layer."""
    report = transfer(build_model("yolov5s"), base)
    assert pairs(report) == list(range(25))
    assert report.transferred == 57 + 4  # counters of the 57 batch norms; the head's biases and anchors
    assert report.poor
    assert "LESS THAN HALF" in report.summary()
    assert report.rows[0].misfits[0] == "conv.weight 16x3x6x6 -> 32x3x6x6"


def test_six_levels_of_depth(base: Weights) -> None:
    report = transfer(build_model("yolov5n6"), base)
    assert pairs(report)[:12] == [*range(7), None, None, 7, 8, 9]
    assert not report.poor


def test_anchors(base: Weights) -> None:
    mine = [[20, 26, 32, 60, 66, 46], [60, 122, 124, 90, 118, 238], [232, 180, 312, 396, 746, 652]]
    model = build_model("yolov5n", anchors=mine)
    own = model.head.anchors.clone()
    report = transfer(model, base, keep_anchors=False)
    assert torch.equal(model.head.anchors, own)
    assert report.transferred == 348
    assert report.rows[-1].misfits == ("the model's own anchors are kept",)
    counted = build_model("yolov5n", anchors=3)
    transfer(counted, base)
    assert torch.equal(counted.head.anchors, base.state["model.24.anchors"])
    assert not counted.head.counted


def test_foreign_keys_are_lost_and_not_trusted(base: Weights) -> None:
    state = {**base.state, "teacher.0.weight": torch.ones(1), "model.x.y": torch.ones(1)}
    weights = Weights(state=state, spec=base.spec, names=base.names, nc=80, source=base.source)
    report = transfer(build_model("yolov5n"), weights)
    assert (report.transferred, report.lost, report.total) == (349, 2, 351)


def test_the_spec_of_a_checkpoint_keeps_the_identities(base: Weights) -> None:
    model = variant({"after": 4, "insert": [6, "C3", [256]]})
    spec = ModelSpec.from_dict(model.spec.to_dict(), "checkpoint")
    weights = Weights(state=model.state_dict(), spec=spec, names=model.names, nc=80, source=Path("x.pt"))
    assert pairs(transfer(build_model("yolov5n"), weights)) == [0, 1, 2, 3, 4, *range(6, 26)]


@pytest.mark.parametrize("fuse", [False, True])
def test_a_closed_gate_changes_nothing(shared: Path, fuse: bool) -> None:
    """On a photograph: a gated insertion gives the boxes of the model it was put into."""
    weights = read_weights(shared / "yolov5n.pt")
    gated = variant(
        {"after": 8, "insert": [1, "CoordAtt", [32]], "gate": "zero"}, {"after": 4, "insert": [1, "CoordAtt", [32]], "gate": "zero"}
    )
    transfer(gated, weights)
    gated.eval()
    image = cv2.imread(str(shared / "coco128" / "images" / "train2017" / "000000000009.jpg"))
    x = torch.from_numpy(cv2.resize(image, (320, 256))[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        plain = load_model(shared / "yolov5n.pt", fuse=fuse)(x)
        torch.testing.assert_close((gated.fuse() if fuse else gated)(x), plain, rtol=0, atol=0)


def test_a_block_that_fades_in_keeps_the_weights_of_the_one_it_replaces(base: Weights) -> None:
    model = variant({"replace": 6, "with": [9, "C3CoT", [512]], "gate": "zero"})
    report = transfer(model, base)
    assert report.transferred == report.total == 349
    state = model.state_dict()
    for name, tensor in base.state.items():
        if name.startswith("model.6."):
            assert torch.equal(state[name.replace("model.6.", "model.6.old.")], tensor)
    # what fits is the new block's, too: C3CoT differs from C3 in the second convolution of the bottlenecks
    assert torch.equal(state["model.6.new.cv1.conv.weight"], base.state["model.6.cv1.conv.weight"])
    assert "model.6.m.0.cv1.conv.weight" in report.keys


def test_the_share_of_the_parameters_that_were_transferred(base: Weights) -> None:
    plain, other = build_model("yolov5n"), variant({"replace": 6, "with": [9, "C3CoT", [512]]})
    assert transfer(plain, base).share == 1
    report = transfer(other, base)
    parameters = {name: p.numel() for name, p in other.named_parameters()}
    assert report.share == pytest.approx(sum(n for name, n in parameters.items() if name in report.keys) / sum(parameters.values()))
    assert base.state.keys() - report.keys == {name for name in base.state if name.startswith("model.6.m.") and ".cv2." in name}
