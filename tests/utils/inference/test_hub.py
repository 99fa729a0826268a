"""``torch.hub.load`` from the repository: YOLOv5's snippets, and tables with its columns."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models import build_model, load_model
from utils.config import ROOT
from utils.errors import UserError
from utils.inference.hub import HubModel, HubResults
from utils.inference.predictor import predict
from utils.inference.results import Results

BOXES = np.array([[10, 20, 50, 60], [0, 0, 30, 30]], np.float32)


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)


@pytest.fixture
def results(image: NDArray[np.uint8]) -> HubResults:
    speed = {"pre-process": 1.0, "inference": 2.0, "NMS": 3.0}
    found = Results(
        image, Path("a/bus.png"), {0: "person", 3: "cat"}, BOXES, np.array([0.9, 0.5], np.float32), np.array([3, 0]), (64, 96), speed
    )
    empty = Results(image, Path("b/bus.jpg"), {0: "person"}, BOXES[:0], np.zeros(0, np.float32), np.zeros(0, np.int64), (64, 96), speed)
    return HubResults([found, empty])


@pytest.fixture(scope="module")
def model() -> HubModel:
    return HubModel(build_model("yolov5n", 2, names=["a", "b"]).eval())


def loaded(*args: Any, **kwargs: Any) -> Any:
    return torch.hub.load(str(ROOT), *args, source="local", **kwargs)


def test_boxes_in_four_forms(results: HubResults) -> None:
    assert results.xyxy[0].tolist() == [[10, 20, 50, 60, pytest.approx(0.9), 3], [0, 0, 30, 30, 0.5, 0]]
    assert results.xywh[0][0, :4].tolist() == [30, 40, 40, 40]
    assert results.xyxyn[0][0, :4].tolist() == pytest.approx([0.1, 0.25, 0.5, 0.75])
    assert results.xywhn[0][0].tolist() == pytest.approx([0.3, 0.5, 0.4, 0.5, 0.9, 3])
    assert [tuple(b.shape) for b in results.xyxyn] == [(2, 6), (0, 6)]
    assert (len(results), results.n, results.files, results.s) == (2, 2, ["bus.jpg", "bus.jpg"], (2, 3, 64, 96))
    assert [len(one) for one in results.tolist()] == [1, 1]


def test_printing(results: HubResults, capsys: pytest.CaptureFixture[str]) -> None:
    results.print()
    assert capsys.readouterr().out.splitlines() == [
        "image 1/2: 80x100 1 person, 1 cat",
        "image 2/2: 80x100 (no detections)",
        "Speed: 1.0ms pre-process, 2.0ms inference, 3.0ms NMS per image at shape (2, 3, 64, 96)",
    ]


def test_tables_have_yolov5s_columns_and_types(results: HubResults) -> None:
    pytest.importorskip("pandas")
    table, empty = results.pandas().xyxy
    assert list(table.columns) == list(empty.columns) == ["xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    assert [str(t) for t in table.dtypes[:6]] == ["float64"] * 5 + ["int64"]
    assert table.name.tolist() == ["cat", "person"]
    assert len(empty) == 0
    assert list(results.pandas().xywhn[0].columns)[:4] == ["xcenter", "ycenter", "width", "height"]


def test_tables_without_pandas_say_what_to_install(results: HubResults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        results.pandas()


def test_pictures_and_crops(results: HubResults, image: NDArray[np.uint8], tmp_path: Path) -> None:
    drawn = results.render()[0]
    assert np.array_equal(results.tolist()[0].ims[0], image[..., ::-1])
    assert np.array_equal(drawn, results.ims[0])
    assert not np.array_equal(drawn, image[..., ::-1])
    for _ in range(2):
        results.save(save_dir=tmp_path / "exp")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.jpg")) == [
        *("exp/bus.jpg", "exp/bus_2.jpg", "exp2/bus.jpg", "exp2/bus_2.jpg")
    ]
    crops = results.crop(save_dir=tmp_path / "exp", exist_ok=True)
    assert [c["label"] for c in crops] == ["cat 0.90", "person 0.50"]
    assert crops[0]["im"].shape == (52, 52, 3)  # 40 * 1.02 + 10, from 4.6 to 55.4
    results.crop(save_dir=tmp_path / "exp", exist_ok=True)
    written = {str(p.relative_to(tmp_path / "exp/crops")) for p in (tmp_path / "exp/crops").rglob("*.jpg")}
    assert written == {"cat/bus.jpg", "cat/bus2.jpg", "person/bus.jpg", "person/bus2.jpg"}  # numbered within a class, as YOLOv5 does
    assert results.crop(save=False)[1]["box"] == [0, 0, 30, 30]


def test_every_kind_of_image_gives_the_same_boxes(model: HubModel, image: NDArray[np.uint8], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image)
    rgb = np.ascontiguousarray(image[..., ::-1])
    model.conf, model.max_det = 0.0, 5
    try:
        kinds = [str(tmp_path / "a.png"), tmp_path / "a.png", Image.fromarray(rgb), rgb, rgb.transpose(2, 0, 1), rgb.astype(float)]
        found = model(kinds, size=64)
        assert len(found) == 6
        for boxes in found.xyxy:
            assert torch.equal(boxes, found.xyxy[0])
        assert np.array_equal(found.xyxy[0].numpy(), predict(model.model, image, imgsz=64, conf=0.0, max_det=5)[0].boxes)
        model.classes = [1]
        assert set(model(rgb, size=64).xyxy[0][:, 5].tolist()) <= {1.0}
    finally:
        model.conf, model.max_det, model.classes = 0.25, 1000, None


def test_each_class_of_a_box_is_a_detection_where_asked(model: HubModel, image: NDArray[np.uint8]) -> None:
    model.conf = 0.0
    try:
        best = len(model(image, size=64).xyxy[0])
        model.multi_label = True
        assert len(model(image, size=64).xyxy[0]) > best
    finally:
        model.conf, model.multi_label = 0.25, False


def test_without_a_display_nothing_is_started(
    results: HubResults, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Image.Image, "show", lambda *_: pytest.fail("a viewer was started"))
    monkeypatch.setitem(sys.modules, "IPython", None)
    results.show()
    assert [record.message for record in caplog.records] == [
        "this machine has no display (DISPLAY is not set); results.save() writes the images"
    ]


def test_a_tensor_goes_straight_through(model: HubModel) -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), model.model(x))


@pytest.mark.parametrize("wrong", ["nowhere.jpg", [3], np.zeros((0, 4, 3), np.uint8), np.ones((8, 8, 3)), np.full((8, 8, 3), np.nan)])
def test_what_is_no_image_is_refused(model: HubModel, wrong: Any) -> None:
    with pytest.raises(UserError):
        model(wrong)


def test_official_weights(shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weights = shared / "yolov5n.pt"
    model = loaded("custom", path=str(weights))
    assert capsys.readouterr().out == "yolov5n.pt: 80 classes, 1,867,405 parameters, on cpu\n"
    monkeypatch.chdir(weights.parent)
    picture = next((shared / "coco128" / "images").rglob("*.jpg"))
    by_name = loaded("yolov5n", _verbose=False, device="cpu")
    assert torch.equal(model(picture).xyxy[0], by_name(picture).xyxy[0])
    trainable = loaded("yolov5n", autoshape=False, _verbose=False)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in trainable.modules())
    assert all(parameter.requires_grad for parameter in trainable.parameters())
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="0 CUDA device"):
            loaded("yolov5n", _verbose=False, device=0)
    few = loaded("yolov5n", classes=3, autoshape=False, _verbose=False)
    whole = load_model(weights, fuse=False)
    assert few.nc == 3
    assert torch.equal(next(few.parameters()), next(whole.parameters()))


def test_models_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    fresh = loaded("yolov5n", pretrained=False, classes=2, channels=1, autoshape=False, _verbose=False)
    assert (fresh.nc, fresh.ch, fresh.training) == (2, 1, False)
    with pytest.raises(UserError, match=r"yolov5s6\.pt"):
        loaded("yolov5s6", _verbose=False)


def test_packages_of_another_project_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = ModuleType("models")
    other.__file__ = str(tmp_path / "models" / "__init__.py")
    spec = importlib.util.spec_from_file_location("hubconf_tested", ROOT / "hubconf.py")
    assert spec is not None
    assert spec.loader is not None
    hubconf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hubconf)
    monkeypatch.setitem(sys.modules, "models", other)
    with pytest.raises(ImportError, match="named models is already imported"):
        hubconf.custom("a.pt")
