"""Boxes in pixels of images that EXIF turns: of the stored or of the upright image, by what the sizes tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.data.config import load_data
from utils.data.index import Index
from utils.data.scan import load_index
from utils.images.reading import read_image

STORED = (100, 50)
BOX = [10, 5, 30, 15]  # x1, y1, x2, y2 in the stored image
UPRIGHT = {2: [70, 5, 90, 15], 3: [70, 35, 90, 45], 4: [10, 35, 30, 45], 5: [5, 10, 15, 30]}
UPRIGHT |= {1: BOX, 6: [35, 10, 45, 30], 7: [35, 70, 45, 90], 8: [5, 70, 15, 90]}
Entry = tuple[int, tuple[int, int] | None, list[int]]
"""EXIF's orientation, the (width, height) that the label file states, and the box there."""


def dataset(root: Path, kind: str, *entries: Entry, stored: tuple[int, int] = STORED, info: object = None) -> Index:
    """Images 0.png, 1.png ..., each black but for a white `BOX` in its stored pixels, and their index."""
    images, annotations = [], []
    for number, (orientation, size, (x1, y1, x2, y2)) in enumerate(entries):
        pixels = np.zeros((*stored[::-1], 3), np.uint8)
        pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(root / f"{number}.png", exif=exif)
        frame = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
        if kind == "voc":
            sides = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            thing = f"<object><name>a</name><bndbox>{sides}</bndbox></object>"
            (root / f"{number}.xml").write_text(f"<annotation>{frame}{thing}</annotation>")
        images.append({"id": number, "file_name": f"{number}.png"} | ({"width": size[0], "height": size[1]} if size else {}))
        annotation = {"id": number, "image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        annotations.append(annotation | {"segmentation": [[x1, y1, x2, y1, x2, y2]]})
    if kind == "coco":
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}], "info": info}
        (root / "labels.json").write_text(json.dumps(content))
    return load_index(load_data(root), "train")


def boxes(index: Index) -> list[list[int]]:
    return [np.rint(index.ground_truth(i).xyxy[0]).astype(int).tolist() for i in range(len(index))]


def lines(index: Index) -> list[str]:
    return [finding.text for finding in index.report.findings]


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_boxes_of_stored_images_are_turned_with_them(tmp_path: Path, kind: str) -> None:
    """Where the size tells it, and in the images of the same tool where it cannot tell: 2, 3 and 4 change no size."""
    index = dataset(tmp_path, kind, *((orientation, STORED, BOX) for orientation in range(1, 9)))
    assert boxes(index) == [UPRIGHT[orientation] for orientation in range(1, 9)]
    for path, (x1, y1, x2, y2) in zip(index.paths, boxes(index), strict=True):
        image = read_image(path)
        assert image[y1:y2, x1:x2].min() == 255
        assert (image > 0).sum() == 3 * 20 * 10
    assert lines(index) == ["the boxes of 7 images are, by the size, those before EXIF turns them: they are turned, too"]


def test_polygons_are_turned_too(tmp_path: Path) -> None:
    index = dataset(tmp_path, "coco", (6, STORED, BOX))
    corners = [(45, 10), (45, 30), (35, 30)]  # (10, 5), (30, 5), (30, 15) before
    np.testing.assert_allclose(index.points * [50, 100], corners, atol=1e-4)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_boxes_of_upright_images_stay(tmp_path: Path, kind: str) -> None:
    """The size of the first four tells nothing, but that of the others is that of the upright image."""
    index = dataset(tmp_path, kind, *((o, STORED if o < 5 else STORED[::-1], UPRIGHT[o]) for o in range(1, 9)))
    assert boxes(index) == [UPRIGHT[orientation] for orientation in range(1, 9)]
    assert lines(index) == []


@pytest.mark.parametrize("kind", ["voc", "coco"])
@pytest.mark.parametrize(
    ("orientation", "size", "stored"), [(3, STORED, STORED), (2, None, STORED), (6, None, STORED), (6, (60, 60), (60, 60))]
)
def test_where_no_size_tells_the_boxes_are_upright_and_a_line_says_so(
    tmp_path: Path, kind: str, orientation: int, size: tuple[int, int] | None, stored: tuple[int, int]
) -> None:
    box = [20, 5, 40, 15]
    index = dataset(tmp_path, kind, (orientation, size, box), (orientation, size, box), stored=stored)
    assert boxes(index) == [box, box]
    assert lines(index) == ["EXIF turns 2 images, and no size tells if it turned their boxes: they are taken as upright"]


def test_a_scaled_copy_of_a_stored_image(tmp_path: Path) -> None:
    assert boxes(dataset(tmp_path, "voc", (6, (200, 100), [2 * side for side in BOX]))) == [UPRIGHT[6]]


def test_a_size_of_the_header_beside_upright_boxes(tmp_path: Path) -> None:
    """The box does not fit the stored image, only the upright one: the tool read the size from the file's header."""
    assert boxes(dataset(tmp_path, "coco", (8, STORED, UPRIGHT[8]))) == [UPRIGHT[8]]


def test_label_studio_states_the_size_of_the_header(tmp_path: Path) -> None:
    """Its boxes are those of the image as it shows it, with its COCO export's width and height exchanged."""
    index = dataset(tmp_path, "coco", (6, STORED, UPRIGHT[6]), (3, STORED, UPRIGHT[3]), info={"contributor": "Label Studio"})
    assert boxes(index) == [UPRIGHT[6], UPRIGHT[3]]
    assert lines(index) == []
