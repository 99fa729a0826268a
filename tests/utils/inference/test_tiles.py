"""Detection in tiles: where they lie, what is kept at their seams, and that small objects of a large image are found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models import load_model
from utils.errors import UserError
from utils.geometry import iou
from utils.inference.predictor import Predictor
from utils.inference.tiles import TiledPredictor, merge_tiles, tile_starts


@pytest.mark.parametrize(
    ("side", "tile", "overlap", "starts"),
    [
        (500, 640, 0.2, [0]),
        (640, 640, 0.2, [0]),
        (641, 640, 0.2, [0, 1]),
        (1280, 640, 0.0, [0, 640]),
        (2560, 640, 0.2, [0, 480, 960, 1440, 1920]),
    ],
)
def test_tiles_cover_a_side_and_overlap(side: int, tile: int, overlap: float, starts: list[int]) -> None:
    assert tile_starts(side, tile, overlap) == starts


def row(x1: float, y1: float, x2: float, y2: float, conf: float, cls: int = 0, cut: int = 0) -> list[float]:
    return [x1, y1, x2, y2, conf, cls, cut]


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [
        ([row(0, 0, 10, 10, 0.5), row(1, 0, 11, 10, 0.9)], [0.9]),  # the same object in two tiles
        ([row(0, 0, 10, 10, 0.5), row(1, 0, 11, 10, 0.9, cls=1)], [0.9, 0.5]),
        ([row(0, 0, 40, 10, 0.5), row(0, 0, 10, 10, 0.9, cut=1)], [0.5]),  # a fragment yields although it is more confident
        ([row(0, 0, 40, 10, 0.5), row(0, 0, 10, 10, 0.9)], [0.9, 0.5]),  # a small object in front of a large one does not
        ([row(0, 0, 40, 10, 0.5), row(35, 0, 60, 10, 0.4, cut=1)], [0.5, 0.4]),  # mostly outside
        ([row(0, 0, 30, 10, 0.5, cut=1), row(20, 0, 35, 10, 0.9, cut=1)], [0.5]),  # of two fragments the larger one
        ([], []),
    ],
)
def test_one_box_is_kept_for_each_object(boxes: list[list[float]], kept: list[float]) -> None:
    merged = merge_tiles(np.array(boxes, np.float64).reshape(-1, 7), 0.45)
    assert merged[:, 4].tolist() == kept


def test_classes_are_compared_where_asked() -> None:
    boxes = np.array([row(0, 0, 10, 10, 0.5), row(1, 0, 11, 10, 0.9, cls=1)])
    assert len(merge_tiles(boxes, 0.45, agnostic=True)) == 1


@pytest.mark.parametrize(("tile", "overlap", "says"), [(16, 0.2, "tile must be >= 32"), (64, 0.95, "overlap must be in 0..0.9")])
def test_settings_out_of_range(tile: int, overlap: float, says: str) -> None:
    with pytest.raises(UserError, match=says):
        TiledPredictor(predictor=None, tile=tile, overlap=overlap)  # type: ignore[arg-type]


def test_an_image_no_larger_than_a_tile_is_detected_as_a_whole(shared: Path) -> None:
    predictor = Predictor(model=load_model(shared / "yolov5n.pt"), imgsz=(320, 320))
    image = cv2.imread(str(next((shared / "coco128" / "images").rglob("*.jpg"))))
    whole, tiled = predictor(image, Path("a")), TiledPredictor(predictor=predictor, tile=1000)(image, Path("a"))
    assert np.array_equal(whole.boxes, tiled.boxes)


def found_again(alone: np.ndarray, tiled: np.ndarray) -> int:
    """How many of the boxes `alone` have a box of their class at IoU 0.5 in `tiled`."""
    return sum(bool((iou(box[None, :4], tiled[tiled[:, 5] == box[5], :4]) > 0.5).any()) for box in alone)


def grid(shared: Path, side: int, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """count x count images of coco128, each stretched to a square, and the large image they form."""
    files = sorted((shared / "coco128" / "images").rglob("*.jpg"))[: count**2]
    images = [cv2.resize(cv2.imread(str(f)), (side, side)) for f in files]
    return images, np.vstack([np.hstack(images[i : i + count]) for i in range(0, count**2, count)])


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_tiles_find_what_their_images_alone_give(shared: Path, count: int) -> None:
    predictor = Predictor(model=load_model(shared / "yolov5n.pt"), imgsz=(640, 640))
    images, large = grid(shared, 640, count)
    tiled = TiledPredictor(predictor=predictor, tile=640)(large, Path("large")).boxes
    alone = []
    for i, image in enumerate(images):
        shift = np.array([i % count, i // count, i % count, i // count, 0, 0]) * 640
        alone.append(predictor(image, Path("alone")).boxes + shift)
    boxes = np.concatenate(alone)
    assert found_again(boxes, tiled) >= 0.9 * len(boxes) > 0
    whole = predictor(large, Path("large")).boxes
    assert count == 2 or found_again(boxes, whole) < 0.5 * len(boxes)
    for cls in np.unique(tiled[:, 5]):
        same = tiled[tiled[:, 5] == cls, :4]
        pairs = iou(same[:, None], same[None])
        assert (pairs > 0.45).sum() == len(same)
