"""What the page shows, without gradio: pictures, videos, maps, and the names of the models."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from models import build_model
from tests.tiny_model import TINY
from utils.demo import viewer as module
from utils.demo.__main__ import main, names
from utils.demo.page import serve
from utils.demo.viewer import Viewer, picture, read_picture
from utils.errors import UserError
from utils.images.video import VideoReader, VideoWriter
from utils.inference.results import Results


@pytest.fixture(scope="module")
def viewer() -> Viewer:
    models = {name: build_model({**TINY, "nc": 2}, names=["cat", "dog"]).eval() for name in ("one", "two")}
    return Viewer(models=models, imgsz=(64, 64))


def clip(path: Path, frames: int) -> Path:
    writer = VideoWriter(path, 10.0, (48, 64))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.close()
    return path


def test_each_model_looks_at_a_picture(viewer: Viewer) -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    found = viewer.detect(image, 0.0, 0.5)
    assert [len(results) > 0 for results in found] == [True, True]
    assert all(results.conf.min() >= 0.3 for results in viewer.detect(image, 0.3, 0.5) if len(results))
    sheets = viewer.explain(found, (40.0, 30.0))
    assert all(sheet is not None and sheet.shape[2] == 3 for sheet in sheets)
    with pytest.raises(UserError, match=r"conf must be in 0\.\.1"):
        viewer.detect(image, 1.5, 0.5)


def test_a_click_chooses_the_most_confident_box_below_it() -> None:
    boxes = np.array([[0, 0, 200, 200], [2000, 100, 2500, 900], [100, 0, 2560, 1280]], np.float32)
    results = Results(
        np.zeros((1280, 2560, 3), np.uint8), Path("a"), {}, boxes, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64)
    )
    assert picture(results).shape == (640, 1280, 3)
    assert [module._detection_at(results, point) for point in (None, (1100, 100), (300, 600), (20, 400))] == [0, 1, 2, 0]


def test_a_video_for_each_model(viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    files, missing = viewer.video(clip(tmp_path / "clip.mp4", 5), tmp_path, 0.25, 0.45, lambda *done: steps.append(done))
    assert [path.name for path in files] == ["0.webm", "1.webm"]
    assert [sum(1 for _ in VideoReader(path).frames()) for path in files] == [5, 5]
    assert (steps, missing) == ([(i, 5) for i in range(1, 6)], "")
    monkeypatch.setattr(module, "MAX_FRAMES", 3)
    files, missing = viewer.video(tmp_path / "clip.mp4", tmp_path, 0.25, 0.45, lambda *_: None)
    assert sum(1 for _ in VideoReader(files[0]).frames()) == 3
    assert missing.startswith("the first 3 frames of 5")


def test_a_video_that_cannot_be_read_leaves_nothing(viewer: Viewer, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"a\.mp4: not a video"):
        viewer.video(tmp_path / "a.mp4", tmp_path, 0.25, 0.45, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_pictures_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((30, 40, 3), np.uint8))
    assert read_picture(tmp_path / "a.png").shape == (30, 40, 3)
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="40 x 30 pixels"):
        read_picture(tmp_path / "a.png")


def test_models_of_one_stem_have_their_folders_in_the_name() -> None:
    assert names(["a/one.pt", "b/two.onnx"]) == ["one", "two"]
    assert names(["runs/exp/weights/best.pt", "runs/exp2/weights/best.pt"]) == ["exp/weights/best.pt", "exp2/weights/best.pt"]
    with pytest.raises(UserError, match="given twice"):
        names(["a.pt", "./a.pt"])


def test_without_gradio_it_says_what_to_install(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match="pip install gradio"):
        serve(viewer, "127.0.0.1", 7860)
    with pytest.raises(UserError, match="--port must be 1 to 65535"):
        main(["--port", "0"])
