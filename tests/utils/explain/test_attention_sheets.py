"""The sheets of --attention: what is on them, which frames get one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models import build_model
from models.detector import Detector
from utils.errors import UserError
from utils.explain.attention_sheets import BAR, CELL, GAP, AttentionSheets, Tile, explain, sheet
from utils.images.drawing import colour
from utils.inference.frame import Frame
from utils.inference.results import Results


@pytest.fixture(scope="module")
def model() -> Detector:
    return build_model("yolov5n-ca", nc=2, names=["ship", "tug"]).eval()


def found(count: int = 1, shape: tuple[int, int] = (60, 90)) -> Results:
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    boxes = np.array([[30, 15, 60, 45], [0, 0, 30, 30]], np.float32)[:count]
    return Results(image, Path("a.png"), {0: "ship", 1: "tug"}, boxes, np.array([0.9, 0.5], np.float32)[:count], np.array([1, 0])[:count])


def test_a_detection_its_cam_and_the_blocks_are_shown(model: Detector) -> None:
    tiles = explain(model, found(), (64, 96))
    assert [tile.title for tile in tiles] == ["tug 0.90", "LayerCAM", "5 CoordAtt", "8 CoordAtt", "12 CoordAtt"]
    assert tiles[1].note.endswith("inside the box")
    low, high = (float(word) for word in tiles[2].note.split(" to "))
    assert 0 < low <= high < 1
    for tile in tiles:
        height, width = tile.image.shape[:2]
        assert (height, width) == (round(CELL * 2 / 3), CELL)
        left = round(width / 3)  # of the box, at a third of the picture's width, on its left side
        assert any(tuple(tile.image[height // 2, x]) == colour(1) for x in range(left - 2, left + 3))


def test_another_detection_can_be_chosen_and_none_is_told(model: Detector) -> None:
    results = found(2)
    assert explain(model, results, (64, 96), 1)[0].title == "ship 0.50"
    tiles = explain(model, results, (64, 96), 2)
    assert [tile.title for tile in tiles] == ["no detection", "5 CoordAtt", "8 CoordAtt", "12 CoordAtt"]


def test_the_image_is_not_drawn_on(model: Detector) -> None:
    results = found()
    before = results.image.copy()
    explain(model, results, (64, 96))
    assert np.array_equal(results.image, before)


@pytest.mark.parametrize(("count", "size", "columns"), [(1, (10, 400), 1), (2, (400, 300), 2), (6, (400, 400), 3), (7, (400, 267), 4)])
def test_a_sheet_holds_all_pictures(count: int, size: tuple[int, int], columns: int) -> None:
    tiles = [Tile(f"{i}", "", np.full((*size, 3), 10 + i, np.uint8)) for i in range(count)]
    out = sheet(tiles)
    rows = -(-count // columns)
    assert out.shape == (rows * (size[0] + BAR + GAP) + GAP, columns * (size[1] + GAP) + GAP, 3)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (size[0] + BAR + GAP) + GAP + BAR, number % columns * (size[1] + GAP) + GAP
        assert np.array_equal(out[top : top + size[0], left : left + size[1]], tile.image)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1)])
def test_a_thin_image_has_a_sheet(model: Detector, shape: tuple[int, int]) -> None:
    assert sheet(explain(model, found(1, shape), (64, 64))).shape[2] == 3


def test_each_image_gets_a_sheet_and_a_video_its_first_frame_with_something(model: Detector, tmp_path: Path) -> None:
    explainer = AttentionSheets(tmp_path, model, (64, 96), 1)
    nothing, one = found(0), found(1)
    for frame, results in [
        (Frame(nothing.image, Path("empty.png"), "empty", ""), nothing),
        (Frame(one.image, Path("a.png"), "sub/a", ""), one),
        (Frame(nothing.image, Path("clip.mp4"), "clip", "", number=1, fps=5), nothing),
    ]:
        explainer.add(frame, results)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.jpg")) == ["attention/empty.jpg", "attention/sub/a.jpg"]
    path = tmp_path / "attention" / "clip.jpg"
    explainer.add(Frame(one.image, Path("clip.mp4"), "clip", "", number=2, fps=5), one)
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[1] == 2 * (CELL + GAP) + GAP
    path.unlink()
    explainer.add(Frame(one.image, Path("clip.mp4"), "clip", "", number=3, fps=5), one)
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_told(model: Detector, tmp_path: Path) -> None:
    (tmp_path / "attention").write_text("", encoding="utf-8")
    one = found()
    with pytest.raises(UserError, match="attention: cannot be written"):
        AttentionSheets(tmp_path, model, (64, 96), 1).add(Frame(one.image, Path("a.png"), "a", ""), one)
