"""The fingerprint of data: the same wherever the files lie, another for any other content."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

from utils.data.config import load_data
from utils.data.fingerprint import data_changes, data_fingerprint, file_digests, run_fingerprint, versions
from utils.data.scan import load_index
from utils.errors import UserError


@pytest.fixture
def data(tiny_dataset, tmp_path):
    return shutil.copytree(tiny_dataset.parent, tmp_path / "elsewhere") / "data.yaml"


def fingerprint(path):
    return run_fingerprint(load_index(load_data(path), "train"))


def test_the_same_elsewhere(tiny_dataset, data):
    assert fingerprint(data) == fingerprint(tiny_dataset)
    assert data_changes("train", fingerprint(data), fingerprint(tiny_dataset)) == []


def test_a_box_that_is_moved(tiny_dataset, data):
    label = next(p for p in sorted((data.parent / "labels" / "train").iterdir()) if p.read_text())
    label.write_text(label.read_text().replace("0.", "0.0", 1))
    assert data_changes("train", fingerprint(tiny_dataset), fingerprint(data)) == [
        "the train split has changed: same number of images and boxes, but annotations differ"
    ]


def test_an_image_that_is_gone(tiny_dataset, data):
    (data.parent / "images" / "train" / "00000.jpg").unlink()
    before, now = fingerprint(tiny_dataset), fingerprint(data)
    boxes = before["boxes"] - now["boxes"]
    assert (before["images"], now["images"], boxes > 0) == (8, 7, True)
    assert data_changes("train", before, now) == [
        f"the train split has changed: 8 images before, 7 now, {before['boxes']} boxes before, {now['boxes']} now"
    ]


def test_an_image_of_another_name_or_size(tiny_dataset):
    index = load_index(load_data(tiny_dataset), "train")
    renamed = dataclasses.replace(index, paths=(index.paths[0].with_name("x.jpg"), *index.paths[1:]))
    larger = dataclasses.replace(index, sizes=np.concatenate((index.sizes[:1] + 1, index.sizes[1:])))
    for other in (renamed, larger):
        assert data_changes("val", data_fingerprint(index), data_fingerprint(other)) == [
            "the val split has changed: same number of images and boxes, but image names or sizes differ"
        ]


def test_an_image_that_was_exchanged_for_another_of_its_length(tiny_dataset, data):
    image = data.parent / "images" / "train" / "00000.jpg"
    fingerprint(data)  # which is cached
    content = image.read_bytes()
    middle = len(content) // 2
    image.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    before, now = fingerprint(tiny_dataset), fingerprint(data)
    assert data_changes("train", before, now) == ["the train split has changed: same number of images and boxes, but image files differ"]
    del before["contents"]  # as in a checkpoint of before there was such a thing
    assert data_changes("train", before, now) == []


def test_versions_are_plain_text():
    assert set(versions()) == {"attune", "torch", "numpy", "opencv"}
    assert {type(v) for v in versions().values()} == {str}
    assert versions() == versions()


def test_files_that_differ_in_their_middle_only(tmp_path):
    content = bytes(1 << 17)
    for name, data in (("a", content), ("b", content), ("c", content[:70_000] + b"1" + content[70_001:])):
        (tmp_path / name).write_bytes(data)
    a, b, c = file_digests([tmp_path / name for name in "abc"])
    assert a == b != c
    assert a == hashlib.sha256(content).hexdigest()
    with pytest.raises(UserError, match="none: cannot be read"):
        file_digests([tmp_path / "none"])
