"""A dataset on which nothing can be trained or measured is named before the run, in one line with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.data.config import DataConfig, load_data
from utils.data.index import Index
from utils.data.preflight import Problem, check, find_problems
from utils.data.scan import load_index
from utils.errors import UserError

BOX = "0 .5 .5 .2 .2\n"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((40, 60, 3), 90, np.uint8))


def dataset(root: Path, labels: dict[str, str | None], yaml: str = "") -> DataConfig:
    """A dataset of ``split/name``: the text of its label file, None without one."""
    for name, text in labels.items():
        image(root / f"images/{name}.jpg")
        (root / f"labels/{name}").parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (root / f"labels/{name}.txt").write_text(text)
    (root / "d.yaml").write_text(f"train: images/train\nval: images/val\nnames: [a, b]\n{yaml}")
    return load_data(root / "d.yaml")


def indices(data: DataConfig, classes: tuple[int, ...] | None = None) -> dict[str, Index]:
    return {split: load_index(data, split, classes=classes) for split in ("train", "val")}


def found(data: DataConfig, classes: tuple[int, ...] | None = None) -> list[Problem]:
    return find_problems(indices(data, classes))


def test_nothing_is_wrong(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"train/a": BOX, "train/b": None, "train/c": "", "val/d": BOX, "val/e": "0 .1 .1 .5 .1 .3 .4"})
    assert found(data) == []


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"d": None}, "no label file was found"),
        ({"d": ""}, "its label files have no annotations"),
        ({"d": "7 .5 .5 .1 .1"}, "all 1 annotations were dropped: .*d.txt:1: class 7 is outside"),
    ],
)
def test_nothing_to_measure(tmp_path: Path, labels: dict[str, str | None], reason: str, caplog: pytest.LogCaptureFixture) -> None:
    data = dataset(tmp_path, {"train/a": BOX, **{f"val/{name}": text for name, text in labels.items()}})
    both = indices(data)
    with pytest.raises(UserError, match=f"d.yaml: 'val' has no box to measure, so AP will be NaN: {reason}"):
        check(data, both, must_measure=True)
    check(data, both)
    assert [record.getMessage().count("'val' has no box") for record in caplog.records] == [1]


def test_nothing_to_train_on(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"train/a": None, "val/a": BOX})
    with pytest.raises(UserError, match="'train' has no box to train on: no label file was found"):
        check(data, indices(data))


def test_a_json_that_nothing_names(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"train/a": None, "val/a": BOX})
    (tmp_path / "annotations.json").write_text('{"images": [], "annotations": [], "categories": []}')
    text = f"{{images: {tmp_path}/images/train, annotations: {tmp_path}/annotations.json}}"
    assert found(data)[0].text.endswith(f"; to use {tmp_path}/annotations.json, name it in a data YAML: {text}")


def test_the_chosen_classes_leave_nothing(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"train/a": BOX, "val/a": BOX})
    assert [(p.severity, p.text.partition(": ")[2]) for p in found(data, classes=(1,))] == [
        ("error", "none of its 1 annotations is of the chosen classes (--classes)"),
        ("warning", "none of its 1 annotations is of the chosen classes (--classes)"),
    ]


def test_crowds_only(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], "iscrowd": 1}
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [annotation], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    error, *_ = found(load_data(tmp_path / "a.json"))
    assert error[:3] == ("error", "box", "train")
    assert "all 1 annotations are crowds (iscrowd 1, as CVAT writes masks)" in error.text
    assert "set iscrowd to 0" in error.text


def test_label_files_of_other_names(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"train/a": BOX, "train/b": None, "val/c": BOX})
    assert found(data) == []
    (tmp_path / "labels/train/x-b.txt").write_text(BOX)
    (tmp_path / "labels/train/classes.txt").write_text("a\nb\n")
    (problem,) = found(data)
    assert problem.kind == "names"
    text = "1 images of 'train' have no label file, and 1 label files belong to no image (the first is"
    assert problem.text == f"{text} {tmp_path}/labels/train/x-b.txt); a label file is named as its image"


def test_a_folder_of_labels_that_both_splits_use(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/c"):
        image(tmp_path / f"{name}.jpg")
    (tmp_path / "marks").mkdir()
    for name in "ac":
        (tmp_path / f"marks/{name}.txt").write_text(BOX)
    entries = "".join(f"{split}: {{images: {split}, annotations: marks}}\n" for split in ("train", "val"))
    (tmp_path / "d.yaml").write_text(f"{entries}names: [a]")
    assert found(load_data(tmp_path / "d.yaml")) == []


def test_images_that_are_measured_and_trained_on(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"train/a": BOX, "train/b": BOX, "val/c": BOX})
    (tmp_path / "images/val/link").symlink_to(tmp_path / "images/train")
    (tmp_path / "labels/val/link").symlink_to(tmp_path / "labels/train")
    (problem,) = found(data)
    assert problem.kind == "overlap"
    assert problem.text.startswith("2 of 3 images of 'val' are trained on too")
    (tmp_path / "d.yaml").write_text("train: images/train\nval: images/train\nnames: [a]")
    (problem,) = found(load_data(tmp_path / "d.yaml"))
    assert problem.text.startswith("all 2 images of 'val' are trained on too, so what is measured is too good; python -m ")


def test_images_without_the_suffix_of_one(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"train/a": BOX, "val/b": BOX})
    image(tmp_path / "images/train/c.jpg")
    (tmp_path / "images/train/c.jpg").rename(tmp_path / "images/train/c.jpg_large")
    (tmp_path / "images/train/d.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (tmp_path / "images/train/notes").write_text("no image")
    (tmp_path / "images/train/e.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0")
    (problem,) = found(data)
    assert problem.kind == "suffix"
    assert problem.text.startswith(
        f"2 files of 'train' hold an image and are not read, because of their suffix (the first is {tmp_path}/images"
    )


@pytest.mark.parametrize(
    ("row", "flagged"),
    [
        ("0 .5 .5 .4 .4 .4 .4 .6 .6 .35 .65", True),  # x, y
        ("0 .5 .5 .4 .4 .4 .4 1 .6 .6 1 .35 .65 0 0 0 0", True),  # x, y, visible
        ("0 .3 .3 .7 .3 .7 .7 .3 .7", False),  # a square
        ("0 .5 .1 .9 .5 .5 .9 .1 .5", False),  # a rhomb
        ("0 .5 .5 .4 .4 .4 .4 .6 .6 .35 .95", False),  # a point outside
    ],
)
def test_key_points(tmp_path: Path, row: str, flagged: bool) -> None:
    data = dataset(tmp_path, {"train/a": row, "val/b": BOX})
    assert [problem.kind for problem in found(data)] == ["keypoints"] * flagged
    many = dataset(tmp_path, {"train/a": f"{row}\n0 .3 .3 .7 .3 .7 .7 .3 .7", "val/b": BOX})
    assert found(many) == []  # one polygon is certain


def test_a_key_point_dataset(tmp_path: Path) -> None:
    row = "1 .5 .5 .4 .2 .4 .4 2 0 0 0 .35 .65 1\n0 .5 .5 .2 .2\n"
    data = dataset(tmp_path, {"train/a": row, "val/b": BOX}, yaml="kpt_shape: [3, 3]")
    train = indices(data)["train"]
    assert found(data) == []
    np.testing.assert_allclose(train.annotations, [[1, 0.5, 0.5, 0.4, 0.2], [0, 0.5, 0.5, 0.2, 0.2]], rtol=1e-6)
    assert len(train.points) == 0


def test_a_folder_of_images_without_a_suffix(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"train/a": BOX, "val/b": BOX})
    (tmp_path / "images/val/b.jpg").rename(tmp_path / "images/val/b")
    with pytest.raises(UserError, match=r"no image file was found; .*images/val/b is none by its suffix"):
        load_index(data, "val")
