"""Checkpoints of YOLOv8, YOLO11 and YOLOv5u: their YAML becomes the shipped base, and their names and shapes are the ones here."""

from __future__ import annotations

import copy
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models import build_model
from models.spec.model_spec import ModelSpec
from models.weights.load import load_model, read_weights
from models.weights.transfer import transfer
from models.weights.yolov8 import anchor_free
from utils.errors import UserError


def backbone(block: str, depths: tuple[int, int], small: list[Any], large: list[Any]) -> list[list[Any]]:
    first, second = depths
    rows: list[list[Any]] = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [128, 3, 2]], [-1, first, block, [256 if large else 128, *small]]]
    rows += [[-1, 1, "Conv", [256, 3, 2]], [-1, second, block, [512 if large else 256, *small]]]
    rows += [[-1, 1, "Conv", [512, 3, 2]], [-1, second, block, [512, True]], [-1, 1, "Conv", [1024, 3, 2]]]
    return [*rows, [-1, first, block, [1024, True]], [-1, 1, "SPPF", [1024, 5]]]


def neck(block: str, repeats: int, own: list[Any], last: list[Any], top: int) -> list[list[Any]]:
    """With the deepest map in row `top`."""
    up = [-1, 1, "nn.Upsample", [None, 2, "nearest"]]
    rows: list[list[Any]] = [up, [[-1, 6], 1, "Concat", [1]], [-1, repeats, block, [512, *own]]]
    rows += [up, [[-1, 4], 1, "Concat", [1]], [-1, repeats, block, [256, *own]]]
    rows += [[-1, 1, "Conv", [256, 3, 2]], [[-1, top + 3], 1, "Concat", [1]], [-1, repeats, block, [512, *own]]]
    rows += [[-1, 1, "Conv", [512, 3, 2]], [[-1, top], 1, "Concat", [1]], [-1, repeats, block, [1024, *last]]]
    return [*rows, [[top + 6, top + 9, top + 12], 1, "Detect", ["nc"]]]


PUBLISHED: dict[str, dict[str, Any]] = {
    "yolov8": {
        "nc": 80,
        "scales": {
            "n": [0.33, 0.25, 1024],
            "s": [0.33, 0.50, 1024],
            "m": [0.67, 0.75, 768],
            "l": [1.00, 1.00, 512],
            "x": [1.00, 1.25, 512],
        },
        "backbone": backbone("C2f", (3, 6), [True], []),
        "head": neck("C2f", 3, [], [], 9),
    },
    "yolo11": {
        "nc": 80,
        "scales": {
            "n": [0.50, 0.25, 1024],
            "s": [0.50, 0.50, 1024],
            "m": [0.50, 1.00, 512],
            "l": [1.00, 1.00, 512],
            "x": [1.00, 1.50, 512],
        },
        "backbone": [*backbone("C3k2", (2, 2), [False, 0.25], [True]), [-1, 2, "C2PSA", [1024]]],
        "head": neck("C3k2", 2, [False], [True], 10),
    },
}
"""As published, without comments."""


@pytest.mark.parametrize("family", PUBLISHED)
@pytest.mark.parametrize("letter", "nsmlx")
def test_a_published_yaml_is_the_shipped_base(family: str, letter: str) -> None:
    content = anchor_free({**PUBLISHED[family], "scale": letter}, "x.pt")
    found, shipped = ModelSpec.from_dict(content, "x.pt"), ModelSpec.from_yaml(f"{family}{letter}")
    assert found.scale == shipped.scale
    assert [(r.sources, r.repeats, r.name, r.args) for r in found.rows] == [(r.sources, r.repeats, r.name, r.args) for r in shipped.rows]


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, model: nn.Module, content: dict[str, Any], kind: str = "DetectionModel") -> Path:
    """A file as ultralytics writes it: the module pickled under names that exist nowhere."""
    tasks = types.ModuleType("ultralytics.nn.tasks")
    vars(tasks)[kind] = type(kind, (nn.Module,), {"__module__": "ultralytics.nn.tasks"})
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        monkeypatch.setitem(sys.modules, name, tasks)
    foreign = vars(tasks)[kind]()
    foreign.model = copy.deepcopy(model)
    vars(foreign).update({"yaml": content, "names": {0: "cat", 1: "dog"}, "nc": 2})
    torch.save({"epoch": -1, "model": foreign.half(), "ema": None, "train_args": {"imgsz": 640}}, folder / "foreign.pt")
    return folder / "foreign.pt"


def test_weights_are_read_and_transferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build_model("yolov8n", nc=2, seed=1)
    path = write(tmp_path, monkeypatch, detector.model, {**PUBLISHED["yolov8"], "nc": 2, "scale": "n"})
    weights = read_weights(path)
    shapes = {name: tuple(t.shape) for name, t in weights.state.items()}
    for name, shape in {  # YOLOv8n's, with 2 classes
        "model.0.conv.weight": (16, 3, 3, 3),
        "model.2.cv1.conv.weight": (32, 32, 1, 1),
        "model.2.m.0.cv1.conv.weight": (16, 16, 3, 3),
        "model.4.m.1.cv2.bn.running_var": (32,),
        "model.9.cv2.conv.weight": (256, 512, 1, 1),
        "model.12.cv1.conv.weight": (128, 384, 1, 1),
        "model.21.cv2.conv.weight": (256, 384, 1, 1),
        "model.22.cv2.0.0.conv.weight": (64, 64, 3, 3),
        "model.22.cv2.2.2.bias": (64,),
        "model.22.cv3.0.0.conv.weight": (64, 64, 3, 3),
        "model.22.cv3.2.2.weight": (2, 64, 1, 1),
        "model.22.dfl.conv.weight": (1, 16, 1, 1),
    }.items():
        assert shapes[name] == shape, name
    assert len(shapes) == 355
    loaded = load_model(path, fuse=False)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(x), detector.half().float().eval()(x).detach(), rtol=1e-3, atol=1e-3)
    assert loaded.names == {0: "cat", 1: "dog"}
    report = transfer(build_model("yolov8n", nc=2), weights)
    assert report.transferred == report.total == 355


@pytest.mark.parametrize(
    ("kind", "scale", "message"), [("SegmentationModel", "n", "not a YOLOv5 or YOLOv8 detector"), ("DetectionModel", "q", "no scale 'q'")]
)
def test_what_cannot_be_read(kind: str, scale: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, monkeypatch, nn.Sequential(), {**PUBLISHED["yolov8"], "scale": scale}, kind)
    with pytest.raises(UserError, match=message):
        read_weights(path)
