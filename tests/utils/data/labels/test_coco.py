"""COCO JSON: names, crowds, areas, polygons, images wherever they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from utils.data.labels.coco import CocoImage, class_map, coco_annotations, coco_names, read_coco
from utils.data.labels.coco_outlines import outline, outline_box
from utils.errors import UserError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def document(*annotations: dict[str, Any], **changes: Any) -> bytes:
    images = [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 200}]
    return json.dumps({"images": images, "annotations": list(annotations), "categories": CATEGORIES, **changes}).encode()


def labels_of(*annotations: dict[str, Any], size: tuple[int, int] = (100, 200)) -> Any:
    return coco_annotations(CocoImage(Path("a.jpg"), 1, (100, 200), list(annotations)), Path("x.json"), {3: 0, 7: 1}, size)


def a(**changes: Any) -> dict[str, Any]:
    return {"id": 5, "image_id": 1, "category_id": 7, "bbox": [10, 20, 40, 60], "area": 1234.5, "iscrowd": 0, **changes}


def test_boxes_areas_and_crowds() -> None:
    labels = labels_of(a(), a(category_id=3, iscrowd=1, area=9, segmentation={"counts": "x", "size": [1, 1]}), a(area=0))
    np.testing.assert_allclose(labels.annotations, [[1, 0.15, 0.5, 0.2, 0.6], [0, 0.15, 0.5, 0.2, 0.6], [1, 0.15, 0.5, 0.2, 0.6]])
    assert labels.crowd.tolist() == [False, True, False]
    np.testing.assert_allclose(labels.area, [1234.5, 9, np.nan])


def test_boxes_are_clipped_to_the_image() -> None:
    np.testing.assert_allclose(labels_of(a(bbox=[-10, 50, 20, 100])).annotations, [[1, 0.025, 0.75, 0.05, 0.5]])


def test_an_image_scaled_after_labelling() -> None:
    labels = labels_of(a(), size=(50, 100))
    np.testing.assert_allclose(labels.annotations, [[1, 0.15, 0.5, 0.2, 0.6]])
    np.testing.assert_allclose(labels.area, [1234.5 / 4])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"category_id": 9}, "no category with the id 9"),
        ({"category_id": None}, "no category"),
        ({"bbox": [1, 2, 3]}, "not four numbers"),
        ({"bbox": [1, 2, "3px", 4]}, "not four numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, "not four numbers"),
        ({"bbox": [1, 2, 0, 4]}, "no area"),
        ({"bbox": [500, 2, 10, 4]}, "outside the image"),
        ({"bbox": [1e308, 1e308, 1e308, 1e308]}, "outside the image"),
        ({"bbox": [1, 2, 10, 10**400]}, "not four numbers"),
        ({"bbox": [1, 2, 10, True]}, "not four numbers"),
        ({"bbox": None}, "not four numbers"),
        ({"category_id": True}, "no category with the id True"),
    ],
)
def test_a_bad_annotation_costs_itself_only(change: dict[str, Any], reason: str) -> None:
    labels = labels_of(a(), a(id=6, **change), a(category_id=3))
    assert labels.annotations[:, 0].tolist() == [1, 0]
    assert len(labels.polygons) == len(labels.area) == len(labels.crowd) == 2
    assert labels.findings.dropped == 1
    text = [f.text for f in labels.findings.all() if "annotation 6 (a.jpg)" in f.text]
    assert reason in text[0]


def test_values_of_any_kind_where_numbers_belong() -> None:
    """JSON may hold anything anywhere: nothing of it ends the reading."""
    images = [{"id": [1], "file_name": "a.jpg"}, {"id": 1, "file_name": "a.jpg", "height": 10**400, "width": "9"}]
    file = read_coco(Path("x.json"), document(a(category_id={"x": 1}), a(bbox=[10**400, 0, 1, 1]), images=images), None, Path())
    assert [(image.image_id, image.size) for image in file.images] == [(1, (0, 9))]
    assert "needs an id and a file_name" in str(file.findings.all()[0])
    assert class_map(file, {0: "dog"}) == {7: 0}
    labels = coco_annotations(file.images[0], Path("x.json"), {7: 0}, (100, 200))
    assert (len(labels.annotations), labels.findings.dropped) == (0, 2)


def test_parts_of_a_polygon_are_joined_without_filling_what_lies_between() -> None:
    scale = np.array([100.0, 100.0])
    parts = [[10, 10, 30, 10, 30, 30, 10, 30], [60, 60, 90, 60, 90, 90, 60, 90], [10, 70, 30, 70, 30, 90, 10, 90]]
    drawn = np.zeros((100, 100), np.uint8)
    cv2.fillPoly(drawn, [np.rint(outline(parts, scale) * 100).astype(np.int32)], 1)
    apart = np.zeros((100, 100), np.uint8)
    cv2.fillPoly(apart, [np.array(p, np.int32).reshape(-1, 2) for p in parts], 1)
    assert (apart & ~drawn).sum() == 0
    assert drawn.sum() - apart.sum() < 250  # the two bridges, a line each
    np.testing.assert_allclose(outline(parts[:1], scale), [[0.1, 0.1], [0.3, 0.1], [0.3, 0.3], [0.1, 0.3]], rtol=1e-6)


@pytest.mark.parametrize(
    "segmentation", [None, [], {"counts": [1]}, [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [["a"] * 6], "x", [[float("nan")] * 6]]
)
def test_no_usable_polygon(segmentation: Any) -> None:
    assert outline(segmentation, np.array([10.0, 10.0])).shape == (0, 2)


@pytest.mark.parametrize(
    ("annotation_file", "image_file", "name"),
    [
        ("annotations/instances_train.json", "images/train/a.jpg", "a.jpg"),
        ("annotations/instances_train.json", "train/a.jpg", "a.jpg"),
        ("annotations/instances_train.json", "images/a.jpg", "a.jpg"),
        ("annotations/instances_train.json", "images/train/a.jpg", "train/a.jpg"),
        ("annotations/instances_train.json", "images/a.jpg", "/mnt/elsewhere/a.jpg"),
        ("annotations/instances_train.json", "images/a.jpg", "C:\\data\\a.jpg"),
        ("train/_annotations.coco.json", "train/a.jpg", "a.jpg"),
        ("instances.json", "images/a.jpg", "images/a.jpg"),
    ],
)
def test_images_are_found_where_they_lie(tmp_path: Path, annotation_file: str, image_file: str, name: str) -> None:
    image = tmp_path / image_file
    image.parent.mkdir(parents=True)
    image.touch()
    content = document(images=[{"id": 1, "file_name": name}])
    assert read_coco(tmp_path / annotation_file, content, None, tmp_path).images[0].path == image


def test_names_go_by_category_id_and_map_by_name(tmp_path: Path) -> None:
    assert coco_names(Path("x.json"), document()) == ["cat", "dog"]
    file = read_coco(tmp_path / "x.json", document(a()), None, tmp_path)
    assert class_map(file, {0: "bird", 1: "dog"}) == {7: 1}  # cat is not annotated
    with pytest.raises(UserError, match=r"x\.json: annotates categories .*'dog'; did you mean 'dogs'\?"):
        class_map(file, {0: "dogs", 1: "bird"})


def test_strays_are_counted(tmp_path: Path) -> None:
    content = document(a(), a(image_id=99), a(image_id=[1]), images=[{"id": 1, "file_name": "a.jpg"}, {"id": 2}, {"file_name": "b.jpg"}])
    file = read_coco(tmp_path / "x.json", content, None, tmp_path)
    assert [len(i.annotations) for i in file.images] == [1]
    assert file.findings.dropped == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "a list, as for detections"),
        (b"{}", "without 'images'"),
        (document(annotations=3), "'annotations' is not a list"),
        (document(categories=[{"id": 1.5, "name": "y"}]), "category needs"),
        (document(categories=[{"id": 0, "name": ["x"]}, {"id": 1, "name": "y", "supercategory": ["x"]}]), "category needs"),
        (document(categories=[*CATEGORIES, {"id": 8, "name": "dog"}]), "defined twice"),
    ],
)
def test_what_is_no_coco(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_coco(Path("x.json"), content, None, Path())


def test_entries_that_contradict_each_other() -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}, {"id": True, "file_name": "c.jpg"}, 5]
    content = document(a(), a(image_id=True), a(image_id=9), "x", None, images=images)
    file = read_coco(Path("x.json"), content, Path(), Path())
    assert [image.path.name for image in file.images] == ["a.jpg"]
    assert len(file.images[0].annotations) == 1
    assert file.findings.kinds == {"entry": 7}
    texts = [finding.text for finding in file.findings.all()]
    assert "image 1: 'b.jpg' has the id of 'a.jpg'" in texts
    assert "annotations[3]: 'x' is not an object" in texts


@pytest.mark.parametrize(("stated", "meant"), [("1", 1), (1.0, 1), (1, "1"), (1, "0001"), ("1.0", 1), (1, 1.0)])
def test_ids_are_the_same_number_in_any_kind(stated: Any, meant: Any) -> None:
    images = [{"id": meant, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    categories = [{"id": meant, "name": "dog"}, {"id": "x", "name": "cat"}]
    content = document(a(image_id=stated, category_id=stated), a(image_id=2, category_id="x"), images=images, categories=categories)
    file = read_coco(Path("x.json"), content, None, Path())
    classes = class_map(file, {0: "cat", 1: "dog"})
    read = [coco_annotations(image, Path("x.json"), classes, (100, 200)).annotations for image in file.images]
    assert [labels[:, 0].tolist() for labels in read] == [[1], [0]]
    assert file.findings.dropped == 0
    assert coco_names(Path("x.json"), content) == ["dog", "cat"]


def test_the_id_itself_comes_before_one_that_is_the_same_number() -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": "1", "file_name": "b.jpg"}]
    file = read_coco(Path("x.json"), document(a(image_id=1), a(image_id="1"), a(image_id="01"), images=images), None, Path())
    assert [len(image.annotations) for image in file.images] == [1, 1]
    assert [finding.text for finding in file.findings.all()] == ["annotation 5: there is no image with the id '01'"]


def test_two_lists_of_different_ids() -> None:
    with pytest.raises(UserError, match="the images have ids such as 'a', the annotations image_ids such as 1"):
        read_coco(Path("x.json"), document(a(), images=[{"id": "a", "file_name": "a.jpg"}]), None, Path())


def test_numbers_that_are_written_as_text() -> None:
    labels = labels_of(a(bbox=["10", "20.0", 40, "6e1"], area="1234.5", iscrowd="1"), a(bbox=["1_0", 2, 3, 4]), a(bbox=["nan", 2, 3, 4]))
    np.testing.assert_allclose(labels.annotations, [[1, 0.15, 0.5, 0.2, 0.6]])
    assert (labels.area.tolist(), labels.crowd.tolist(), labels.findings.dropped) == ([1234.5], [True], 2)


@pytest.mark.parametrize("box", [None, [], [0, 0, 0, 0]])
@pytest.mark.parametrize("polygon", [[[10, 20, 50, 20, 50, 80]], [10, 20, 50, 20, 50, 80], [["10", "20", "50", "20", "50", "80"]]])
def test_a_polygon_without_a_box(box: Any, polygon: Any) -> None:
    labels = labels_of(a(bbox=box, segmentation=polygon))
    np.testing.assert_allclose(labels.annotations, [[1, 0.15, 0.5, 0.2, 0.6]])
    np.testing.assert_allclose(labels.polygons[0], [[0.05, 0.2], [0.25, 0.2], [0.25, 0.8]], rtol=1e-6)


def roboflow(root: str, **changes: Any) -> bytes:
    categories = [{"id": 0, "name": root, "supercategory": "none"}]
    categories += [{"id": number, "name": name, "supercategory": root} for number, name in enumerate(("disc", "block"), 1)]
    return document(a(category_id=2), categories=categories, **changes)


@pytest.mark.parametrize("root", ["disc", "shapes"])
def test_the_root_category_of_roboflow_is_no_class(root: str) -> None:
    assert coco_names(Path("x.json"), roboflow(root)) == ["disc", "block"]
    assert class_map(read_coco(Path("x.json"), roboflow(root), None, Path()), {0: "disc", 1: "block"}) == {1: 0, 2: 1}


def test_a_category_that_is_annotated_is_a_class() -> None:
    assert coco_names(Path("x.json"), roboflow("shapes", annotations=[a(category_id="0")])) == ["shapes", "disc", "block"]
    categories = [{"id": 0, "name": "animal"}, {"id": 1, "name": "dog", "supercategory": "animal"}, {"id": 2, "name": "car"}]
    assert coco_names(Path("x.json"), document(categories=categories)) == ["animal", "dog", "car"]


@pytest.mark.parametrize(
    "name",
    [
        "/data/upload/1/photo%202.jpg",
        "images\\photo 2.jpg",
        "/data/local-files/?d=set%2Fphoto%202.jpg",
        "train/photo 2.JPG",
        "photo 2",
        "photo%202",
    ],
)
def test_names_that_tools_write(tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/photo 2.jpg").touch()
    content = document(images=[{"id": 1, "file_name": name}])
    assert read_coco(tmp_path / "result.json", content, None, tmp_path).images[0].path == tmp_path / "images/photo 2.jpg"


def test_ids_of_more_than_64_bits_are_none(tmp_path: Path) -> None:
    """Multiples of 2**61 - 1 have one hash in Python, and looking a hundred thousand of them up would take minutes."""
    equal = [1 + number * ((1 << 61) - 1) for number in range(1000)]
    assert len(set(map(hash, equal))) == 1
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in equal]
    file = read_coco(tmp_path / "a.json", document(a(category_id=1 << 200), a(image_id=float(equal[99])), images=images), None, tmp_path)
    assert [image.image_id for image in file.images] == equal[:5]
    assert file.findings.kinds["entry"] == 1000 - 5 + 1
    with pytest.raises(UserError, match="a category needs an id"):
        coco_names(tmp_path / "a.json", document(categories=[{"id": number, "name": str(number)} for number in equal]))


def test_boxes_of_masks_are_those_of_pycocotools() -> None:
    from pycocotools import mask

    random = np.random.default_rng(0)
    for density in (0.0005, 0.02, 0.5, 0.99) * 20:
        height, width = random.integers(1, 90, 2).tolist()
        encoded = mask.encode(np.asfortranarray(random.random((height, width)) < density).astype(np.uint8))
        expected = mask.toBbox(encoded).tolist() if mask.area(encoded) else []
        assert outline_box({"size": [height, width], "counts": encoded["counts"].decode()}) == expected


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [4, 4], "counts": [1, 2]},  # not all pixels
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": "P" * 40},  # a number without an end
        {"size": [4, 4], "counts": "é"},
        {"size": [0, 4], "counts": [0]},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": "4 4", "counts": [16]},
        {"counts": [16]},
        {},
    ],
)
def test_what_is_no_mask_has_no_box(rle: dict[str, Any]) -> None:
    assert outline_box(rle) == []
