import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.inference.results import Results


def results(rows=((10, 20, 30, 60, 0.9, 0), (0, 0, 200, 100, 0.5, 2), (50, 50, 60, 60, 0.25, 0)), path="dir/000123.jpg") -> Results:
    found = np.array(rows, np.float32).reshape(-1, 6)
    image = np.arange(100 * 200 * 3, dtype=np.uint32).reshape(100, 200, 3).astype(np.uint8)
    names = {0: "person", 2: "bus"}
    return Results(image, Path(path), names, found[:, :4], found[:, 4], found[:, 5].astype(np.int64), shape=(320, 640))


def test_summary_counts_by_class():
    assert results().summary() == "2 persons, 1 bus"
    assert results(()).summary() == "(no detections)"
    assert str(results()) == "dir/000123.jpg: 2 persons, 1 bus"
    assert len(results()) == 3


def test_a_name_cannot_steer_the_terminal():
    r = results()
    r.names[0] = "a\x1b[2J\nb"
    assert r.summary() == "2 a?[2J?bs, 1 bus"


def test_txt_is_normalised_centre_and_size():
    assert results().to_txt() == "0 0.1 0.4 0.1 0.4\n2 0.5 0.5 1 1\n0 0.275 0.55 0.05 0.1\n"
    assert results().to_txt(conf=True).splitlines()[1] == "2 0.5 0.5 1 1 0.5"
    assert results().to_txt(corners=True).splitlines()[0] == "0 0.05 0.2 0.15 0.6"
    assert results(()).to_txt() == ""


def test_coco_rows():
    first = results().to_coco()[0]
    assert first == {"image_id": 123, "category_id": 0, "bbox": [10.0, 20.0, 20.0, 40.0], "score": 0.9}
    assert results(path="bus.jpg").to_coco()[0]["image_id"] == "bus"
    assert results().to_coco(7)[0]["image_id"] == 7


def test_dict_is_plain():
    found = results().to_dict()
    assert (found["height"], found["width"], found["path"]) == (100, 200, "dir/000123.jpg")
    assert found["detections"][1] == {"box": [0.0, 0.0, 200.0, 100.0], "confidence": 0.5, "class": 2, "name": "bus"}


def test_boxes_in_one_array():
    assert results().boxes.shape == (3, 6)
    assert results().boxes[1].tolist() == [0, 0, 200, 100, 0.5, 2]
    assert results(()).boxes.shape == (0, 6)


def test_crops_are_a_little_larger_than_the_box_and_inside_the_image():
    r = results()
    crops = r.crops()
    # box 20 x 40 around (20, 40): sides 1.02 w + 10 = 30.4 and 50.8, so x from 4.8 to 35.2 and y from 14.6 to 65.4
    assert np.array_equal(crops[0].image, r.image[14:66, 4:36])
    assert crops[1].image.shape == (100, 200, 3)
    assert (crops[1].name, crops[1].cls, crops[1].conf) == ("bus", 2, 0.5)


def test_a_crop_at_the_edge_has_pixels():
    assert all(crop.image.size for crop in results(((200, 100, 200, 100, 0.5, 0), (0, 0, 0, 0, 0.4, 0))).crops())


def test_plot_draws_on_a_copy():
    r = results()
    before = r.image.copy()
    drawn = r.plot(line_width=2)
    assert np.array_equal(r.image, before)
    assert drawn.shape == before.shape
    assert (drawn[40, 10] != before[40, 10]).any(), "the left side of the first box"
    without = r.plot(line_width=2, labels=False)
    assert (without != drawn).any()
    assert (r.plot(line_width=2, conf=False) != drawn).any()
    assert np.array_equal(results(()).plot(), before)


def test_save(tmp_path):
    path = results().save(tmp_path / "out.png", line_width=2)
    assert np.array_equal(cv2.imread(str(path)), results().plot(line_width=2))
    with pytest.raises(UserError, match=r"writable formats are \.bmp"):
        results().save(tmp_path / "out.xyz")
    with pytest.raises(UserError, match="cannot be written"):
        results().save(tmp_path / "no" / "such" / "folder.png")


def test_an_unnamed_class_shows_its_number():
    assert results(((0, 0, 5, 5, 0.5, 7),)).summary() == "1 7"


@pytest.mark.parametrize("rows", [(), ((10, 20, 30, 60, 0.9, 0), (0, 0, 200, 100, 0.5, 2))])
def test_boxes_handed_to_supervision_come_back_equal(rows):
    pytest.importorskip("supervision")
    r = results(rows)
    handed = r.to_supervision()
    assert np.array_equal(handed.xyxy, r.xyxy)
    assert np.array_equal(handed.confidence, r.conf)
    assert handed.class_id.tolist() == r.cls.tolist()
    assert handed.data["class_name"].tolist() == [r.name(c) for c in r.cls]


def test_boxes_in_fiftyones_form(monkeypatch):
    """FiftyOne is not needed for the form: a stand-in records what its classes are given."""
    kinds = SimpleNamespace(Detection=lambda **fields: fields, Detections=lambda detections: detections)
    monkeypatch.setitem(sys.modules, "fiftyone", kinds)
    tracked = dataclasses.replace(results(((10, 20, 30, 60, 0.5, 0), (0, 0, 200, 100, 0.25, 2))), ids=np.array([3, -1]))
    first, second = tracked.to_fiftyone()
    assert first == {"label": "person", "bounding_box": pytest.approx([0.05, 0.2, 0.1, 0.4]), "confidence": 0.5, "index": 3}
    assert second == {"label": "bus", "bounding_box": [0, 0, 1, 1], "confidence": 0.25, "index": None}
    assert [one["index"] for one in results(((10, 20, 30, 60, 0.5, 0),)).to_fiftyone()] == [None]


def test_fiftyone_reads_the_coco_entries_as_they_are(tmp_path):
    """Its parser and its classes alone; a dataset of its own needs MongoDB."""
    coco = pytest.importorskip("fiftyone.utils.coco")
    r = results(((10, 20, 30, 60, 0.5, 0), (0, 0, 200, 100, 0.25, 2)))
    content = {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 200, "height": 100}],
        "categories": [{"id": number, "name": name} for number, name in r.names.items()],
        "annotations": r.to_coco(image_id=7),
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    _, classes, _, _, objects = coco.load_coco_detection_annotations(str(tmp_path / "labels.json"))
    for read, handed in zip([one.to_detection((200, 100), classes) for one in objects[7]], r.to_fiftyone().detections, strict=True):
        assert read.bounding_box == pytest.approx(handed.bounding_box)
        assert (read.label, read.confidence) == (handed.label, handed.confidence)


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        results().to_supervision()
