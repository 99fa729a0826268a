"""Weights of both kinds of file: what comes out, and what each other file gets."""

from __future__ import annotations

import copy
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from models import build_model
from models.detector import Detector
from models.weights.load import load_model, read_weights
from utils.errors import UserError
from utils.files.checksum import write_checksum
from utils.training.checkpoint import save_checkpoint

TINY: dict[str, Any] = {
    "nc": 2,
    "depth_multiple": 0.33,
    "width_multiple": 0.25,
    "anchors": [[10, 13, 16, 30], [30, 61, 62, 45]],
    "backbone": [[-1, 1, "Conv", [32, 3, 2]], [-1, 3, "C3", [32]], [-1, 1, "Conv", [64, 3, 2]]],
    "head": [[-1, 1, "Conv", [64, 1, 1]], [[1, 3], 1, "Detect", ["nc", "anchors"]]],
    "ch": 3,
}

Official = Callable[..., Path]


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Official:
    """Writes a file as YOLOv5 does: the whole module pickled, under names that exist nowhere."""
    yolo = types.ModuleType("models.yolo")
    yolo.Model = type("Model", (nn.Module,), {"__module__": "models.yolo"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "models.yolo", yolo)

    def write(detector: Detector, content: dict[str, Any] | None = None, /, **attributes: Any) -> Path:
        model = yolo.Model()
        model.model = copy.deepcopy(detector.model)
        vars(model).update({"yaml": TINY, "names": ["cat", "dog"], "nc": 2, **attributes})
        torch.save({"epoch": 3, "best_fitness": None, "model": model.half(), "ema": None, **(content or {})}, tmp_path / "foreign.pt")
        return tmp_path / "foreign.pt"

    return write


def own(path: Path, detector: Detector, **changes: Any) -> Path:
    """A checkpoint as the training writes it."""
    payload = {"spec": detector.spec.to_dict(), "names": detector.names, "model": detector.state_dict(), "ema": None}
    save_checkpoint(path, {**payload, "config": {}, "hyp": {}, "resume": None, "epoch": 4, "metrics": {"ap": 0.5}, **changes})
    return path


def test_official_nano(shared: Path) -> None:
    weights = read_weights(shared / "yolov5n.pt")
    assert len(weights.state) == 349
    assert {t.dtype for t in weights.state.values()} == {torch.float32, torch.int64}
    assert (weights.nc, weights.names[0], weights.names[79]) == (80, "person", "toothbrush")
    model = Detector(weights.spec)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in weights.state.items()}


def test_official_nano_sees_a_giraffe(shared: Path) -> None:
    """Image 25 of COCO; its labelled box is [385, 60, 601, 358] of 640 x 426 pixels."""
    model = load_model(shared / "yolov5n.pt")
    assert not model.training
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    image = cv2.imread(str(shared / "coco128" / "images" / "train2017" / "000000000025.jpg"))
    padded = cv2.copyMakeBorder(image, 0, 448 - image.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    x = torch.from_numpy(padded[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    boxes = model(x)[0]
    confidence = boxes[:, 4] * boxes[:, 5:].amax(1)
    best = boxes[confidence.argmax()]
    assert confidence.max() > 0.8
    assert model.names[int(best[5:].argmax())] == "giraffe"
    corners = torch.cat((best[:2] - best[2:4] / 2, best[:2] + best[2:4] / 2))
    assert corners.sub(torch.tensor([385.0, 60, 601, 358])).abs().max() < 25


def test_reads_a_whole_module(official: Official) -> None:
    detector = build_model(TINY, seed=1)
    weights = read_weights(official(detector))
    assert weights.names == {0: "cat", 1: "dog"}
    for key, tensor in detector.state_dict().items():
        assert torch.equal(weights.state[key], tensor.half().float() if tensor.is_floating_point() else tensor), key
    loaded = load_model(weights.source, fuse=False)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(loaded(x), detector.eval()(x).detach(), rtol=1e-2, atol=1e-2)  # halves were stored
    assert loaded.names == {0: "cat", 1: "dog"}


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("zipped", [True, False])
def test_unstripped_files_of_both_formats(official: Official, tmp_path: Path, zipped: bool) -> None:
    detector = build_model(TINY, seed=1)
    optimizer = torch.optim.SGD(detector.parameters(), 0.1)
    notes = {"best_fitness": np.array([0.3]), "updates": 5, "optimizer": optimizer.state_dict(), "opt": {"project": Path("runs")}}
    content = torch.load(official(detector, notes), weights_only=False)
    content["ema"] = content["model"]
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    state = read_weights(tmp_path / "x.pt").state
    assert torch.equal(state["model.0.conv.weight"], detector.state_dict()["model.0.conv.weight"].half().float())


def test_prefers_the_ema(official: Official) -> None:
    path = official(build_model(TINY, seed=1))
    average = torch.load(path, weights_only=False)["model"]
    path = official(build_model(TINY, seed=2), {"ema": average})
    key = "model.0.conv.weight"
    assert torch.equal(read_weights(path).state[key], build_model(TINY, seed=1).state_dict()[key].half().float())


def test_old_files(official: Official) -> None:
    """Anchor grids as buffers, no batch counters, Hardswish: as YOLOv5 wrote between 3.0 and 5.0."""
    detector = build_model({**TINY, "activation": "nn.Hardswish()"}, seed=1)
    detector.head.register_buffer("anchor_grid", torch.ones(2, 1, 2, 1, 1, 2))
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            del module._buffers["num_batches_tracked"]
    path = official(detector)
    weights = read_weights(path)
    assert not any("anchor_grid" in key for key in weights.state)
    assert weights.spec.activation == "nn.Hardswish()"
    model = load_model(path, fuse=False)
    assert isinstance(model.model[0].act, nn.Hardswish)
    detector = build_model({**TINY, "activation": "nn.LeakyReLU(0.1)"})
    assert load_model(official(detector)).model[0].act.negative_slope == 0.1


def test_activations_that_no_spec_can_say(official: Official) -> None:
    detector = build_model({**TINY, "backbone": [TINY["backbone"][0], [-1, 3, "BottleneckCSP", [32]], TINY["backbone"][2]]})
    detector.model[1].act = nn.LeakyReLU(0.1)
    with pytest.raises(UserError, match=r"before 4\.0, whose BottleneckCSP .model\.1\.act is LeakyReLU. is not supported"):
        read_weights(official(detector))
    detector = build_model(TINY)
    detector.model[0].act, detector.model[2].act = nn.ReLU(), nn.Hardswish()
    with pytest.raises(UserError, match=r"different activations .nn\.ReLU\(\), nn\.Hardswish\(\)."):
        read_weights(official(detector))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({0: "a", 1: "b"}, {0: "a", 1: "b"}),
        (["a"], {0: "a", 1: "class1"}),
        (["a", "b", "c"], {0: "a", 1: "b"}),
        (None, {0: "class0", 1: "class1"}),
        ({0: "a", "x": 1}, {0: "class0", 1: "class1"}),
    ],
)
def test_names_fit_the_head(official: Official, caplog: pytest.LogCaptureFixture, names: Any, expected: dict[int, str]) -> None:
    logging.getLogger("attune").propagate = True
    path = official(build_model(TINY), names=names)
    assert read_weights(path).names == expected
    assert ("using the number of classes of the head" in caplog.text) == (names != {0: "a", 1: "b"})


def test_own_checkpoint(tmp_path: Path) -> None:
    variant = {**TINY, "head": [[-1, 1, "Conv", [64, 1, 1]], [1, 1, "CoordAtt", [16]], [[4, 3], 1, "Detect", ["nc", "anchors"]]]}
    detector = build_model(variant, names=["x", "y"], seed=3)
    average = {k: v + 1 for k, v in detector.state_dict().items()}
    path = own(tmp_path / "last.pt", detector, ema=average, resume={"step": 7})
    weights = read_weights(path)
    assert weights.spec == detector.spec
    assert weights.names == {0: "x", 1: "y"}
    assert all(torch.equal(weights.state[k], average[k]) for k in average)
    x = torch.rand(1, 3, 32, 32)
    path = own(tmp_path / "best.pt", detector)
    assert torch.equal(load_model(path, fuse=False)(x), detector.eval()(x).detach())
    assert load_model(path, fuse=False).names == {0: "x", 1: "y"}


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolov5s-mine.pt").touch()
    with pytest.raises(UserError, match=r"'yolov5s-min.pt' in .*; did you mean 'yolov5s-mine.pt'"):
        read_weights("yolov5s-min.pt")
    with pytest.raises(UserError, match=r"https://github\.com/ultralytics/yolov5/releases/download/v7\.0/yolov5l6\.pt"):
        read_weights("yolov5l6.pt")
    with pytest.raises(UserError, match="no weights 'xxx"):
        load_model("x" * 400)
    with pytest.raises(UserError, match="there is no folder"):
        load_model(tmp_path / "nowhere" / "x.pt")


SEGMENT = {**TINY, "head": [*TINY["head"][:-1], [[1, 3], 1, "Segment", ["nc", "anchors", 32, 256]]]}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"yaml": SEGMENT}, "segments .its head is Segment."),
        ({"yaml": None}, "models.yolo.Model, which is not a YOLOv5 or YOLOv8 detector"),
        ({"yaml": {"nc": 2}}, "not a YOLOv5 or YOLOv8 detector"),
        ({"yaml": {**TINY, "backbone": [[-1, 1, "Cnov", [16]], *TINY["backbone"][1:]]}}, "did you mean 'Conv'"),
        ({"yaml": {**TINY, "nc": 3}}, r"does not fit .* model.4.m.0.weight is \(14, 8, 1, 1\), expected \(16, 8, 1, 1\)"),
        ({"yaml": {**TINY, "nc": 10**9}}, "."),
        ({"yaml": {**TINY, "nc": "__import__('os')"}}, "'nc' is a positive integer"),
        ({"yaml": {**TINY, "nc": torch.ones(1)}}, "contains a Tensor"),
        ({"yaml": {**TINY, "backbone": "x"}}, "."),
        ({"yaml": {**TINY, "ch": 10**9}}, "'ch' is a positive integer, not 1000000000"),
        ({"yaml": {**TINY, "ch": 999}}, r"model.0.conv.weight is \(8, 3, 3, 3\), expected \(8, 999, 3, 3\)"),
        ({"yaml": {**TINY, "depth_multiple": 100}}, "304 layers of 53 tensors"),
        ({"yaml": {**TINY, "head": [[[[[[[[[[[[[[]]]]]]]]]]]]]]}}, "nested too deeply"),
    ],
)
def test_foreign_files_that_are_no_detectors(official: Official, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(official(build_model(TINY), **attributes))


def test_endless_modules(official: Official) -> None:
    detector = build_model(TINY)
    loop = nn.Module()
    loop._modules["self"] = loop
    path = official(detector)
    content = torch.load(path, weights_only=False)
    content["model"].model._modules["loop"] = loop
    torch.save(content, path)
    with pytest.raises(UserError, match="nested too deeply"):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(1)}, "tensors without their model"),
        ({"state_dict": {}, "epoch": 1}, "its keys: state_dict, epoch"),
        ({}, "its keys: nothing"),
        ([1, 2], "contains list"),
        (nn.Linear(1, 1), "Linear, which is not a YOLOv5 or YOLOv8 detector"),
        ({"attune": 1}, "its checksum does not match"),
    ],
)
def test_other_torch_files(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match=message):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": {}}, "."),
        ({"spec": {**TINY, "head": [[-1, 1, "Nothing", []]]}}, "."),
        ({"names": None}, "."),
        ({"spec": 5}, "a mapping of settings, not int"),
        ({"spec": [[1, 2, 3]]}, "a mapping of settings, not list"),
        ({"names": "x"}, "'names' is a list"),
        ({"model": {"a": 1}}, "has no weights"),
        ({"model": {"model.0.conv.weight": torch.ones(1)}}, "does not fit"),
        ({"resume": 3, "spec": []}, "."),
    ],
)
def test_odd_own_checkpoints(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(own(tmp_path / "x.pt", build_model(TINY), **changes))


def test_what_a_file_repeats_is_kept_once(tmp_path: Path, official: Official) -> None:
    weight = torch.ones(4, dtype=torch.float16)
    weights = read_weights(own(tmp_path / "x.pt", build_model(TINY), model={f"k{i}": weight for i in range(100)}))
    assert len({tensor.data_ptr() for tensor in weights.state.values()}) == 1
    path = official(build_model(TINY))
    content = torch.load(path, weights_only=False)
    content["model"].model.extra = nn.ParameterList([nn.Parameter(weight)])
    for i in range(100):
        content["model"].model.extra._parameters[f"again{i}"] = content["model"].model.extra[0]
    torch.save(content, path)
    repeated = [tensor for key, tensor in read_weights(path).state.items() if ".again" in key]
    assert len(repeated) == 100
    assert len({tensor.data_ptr() for tensor in repeated}) == 1


@pytest.mark.parametrize("text", ["x" * 2000, 1 << 100])
def test_what_is_written_out_is_bounded(tmp_path: Path, text: Any) -> None:
    doubled: Any = []
    for _ in range(60):
        doubled = [doubled, doubled]
    for names in ([doubled], {0: doubled}, [text] * 2):
        with pytest.raises(UserError, match="too long"):
            read_weights(own_of(tmp_path / "x.pt", names))


def own_of(path: Path, names: Any) -> Path:
    """A checkpoint with names that `save_checkpoint` would take for ever to check."""
    empty: dict[str, Any] = {key: {} for key in ("model", "ema", "config", "hyp", "resume", "epoch", "metrics")}
    with path.open("w+b") as file:
        torch.save({"attune": 1, "spec": TINY, **empty, "names": names}, file)
        write_checksum(file)
    return path


def test_incomplete_own_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pt", {"spec": {}})
    with pytest.raises(UserError, match="incomplete checkpoint"):
        read_weights(tmp_path / "x.pt")


def test_damaged_own_checkpoint(tmp_path: Path) -> None:
    path = own(tmp_path / "x.pt", build_model(TINY))
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole.replace(b"CoordAtt", b"CoordAtu") + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            load_model(path)
