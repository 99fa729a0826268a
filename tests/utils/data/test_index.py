"""The index: what is kept of images and labels, counted exactly, from all three formats; and a cache that cannot mislead."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from utils.data import scan as scan_module
from utils.data.config import DataConfig, load_data
from utils.data.scan import load_index
from utils.errors import UserError


def image(path: Path, height: int = 100, width: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def label(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Four images: two boxes and a polygon, an empty label file, none, and one too small."""
    root = tmp_path / "set"
    for name in ("a", "b", "12"):
        image(root / f"images/{name}.png")
    image(root / "images/tiny.png", 9, 50)
    label(root / "labels/a.txt", "0 0.5 0.5 0.2 0.4\n1 0.1 0.2 0.5 0.2 0.3 0.8\n7 0.5 0.5 0.1 0.1\n")
    label(root / "labels/b.txt", "\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "images", "val": "images", "names": ["x", "y"]}))
    return load_data(root / "data.yaml")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images whose headers are read, in order."""
    names: list[str] = []
    read = scan_module.read_header

    def counting(path: str) -> tuple[int, int, int]:
        names.append(Path(path).name)
        return read(path)

    monkeypatch.setattr(scan_module, "read_header", counting)
    return names


def fingerprint(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return hashlib.sha256(b"".join(str(p).encode() + p.read_bytes() for p in files)).hexdigest()


def test_annotations_polygons_ground_truth_and_counts(data: DataConfig, tmp_path: Path) -> None:
    index = load_index(data, "train", cache_dir=tmp_path / "cache")
    assert [p.name for p in index.paths] == ["12.png", "a.png", "b.png"]
    assert index.image_ids == (12, "a", "b")
    assert index.sizes.tolist() == [[100, 200]] * 3
    assert [len(b) for b in map(index.annotations_of, range(3))] == [0, 2, 0]
    np.testing.assert_allclose(index.annotations_of(1), [[0, 0.5, 0.5, 0.2, 0.4], [1, 0.3, 0.5, 0.4, 0.6]], rtol=1e-6)
    assert index.annotations_of(0).shape == (0, 5)
    assert index.polygons_of(0) == []
    assert [s.shape for s in index.polygons_of(1)] == [(0, 2), (3, 2)]
    truth = index.ground_truth(1)
    assert truth.cls.tolist() == [0, 1]
    np.testing.assert_allclose(truth.xyxy, [[80, 30, 120, 70], [20, 20, 100, 80]], rtol=1e-5)
    np.testing.assert_allclose(truth.area, [1600, 4800], rtol=1e-5)
    assert truth.crowd.tolist() == [False, False]
    report = index.report
    assert report.summary() == "train: 3 images, 1 labelled, 2 background, 1 corrupt; 2 boxes; 1 annotations dropped"
    lines = list(report.lines())
    assert "tiny.png: image left out: 50 x 9 pixels" in lines[0]
    assert lines[1].endswith("a.txt:3: class 7 is outside 0 to 1 (the dataset has nc = 2)")
    assert list(report.lines(1))[1] == "... and 1 more findings"


def test_an_index_survives_pickling_for_loader_workers(data: DataConfig, tmp_path: Path) -> None:
    index = load_index(data, "train", cache_dir=tmp_path / "cache")
    copy = pickle.loads(pickle.dumps(index))
    assert copy.paths == index.paths
    assert (copy.annotations_of(1) == index.annotations_of(1)).all()


def test_the_dataset_is_not_touched(data: DataConfig, tmp_path: Path) -> None:
    before = fingerprint(data.root)
    load_index(data, "train", cache_dir=tmp_path / "cache")
    assert fingerprint(data.root) == before
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_class_filter_and_single_class(data: DataConfig, tmp_path: Path) -> None:
    only = load_index(data, "train", classes=[1], cache_dir=tmp_path / "cache")
    assert only.annotations[:, 0].tolist() == [1]  # numbers stay
    assert [s.shape for s in only.polygons_of(1)] == [(3, 2)]
    assert len(only) == 3
    assert only.report.boxes == 1
    single = load_index(data, "train", single_cls=True, cache_dir=tmp_path / "cache")
    assert single.annotations[:, 0].tolist() == [0, 0]
    assert single.names == {0: "item"}
    with pytest.raises(UserError, match="class 5 is outside 0 to 1"):
        load_index(data, "train", classes=[5], cache_dir=tmp_path / "cache")


def test_no_labels_at_all(tmp_path: Path) -> None:
    image(tmp_path / "images/a.png")
    config = DataConfig(tmp_path, tmp_path, {0: "x"}, {"train": (tmp_path / "images",)})
    report = load_index(config, "train", cache_dir=tmp_path / "cache").report
    assert report.boxes == 0
    with pytest.raises(UserError, match="there is nothing to train on"):
        report.require_boxes()


def test_no_usable_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    config = DataConfig(tmp_path, tmp_path, {0: "x"}, {"train": (tmp_path / "images",)})
    with pytest.raises(UserError, match="no usable image: no image file was found"):
        load_index(config, "train", cache_dir=tmp_path / "cache")
    (tmp_path / "images/a.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"no usable image: .*a\.jpg: image left out"):
        load_index(config, "train", cache_dir=tmp_path / "cache")
    with pytest.raises(UserError, match="no split 'test'"):
        load_index(config, "test", cache_dir=tmp_path / "cache")


def test_broken_files_cost_themselves_only(data: DataConfig, tmp_path: Path) -> None:
    images, labels = data.root / "images", data.root / "labels"
    whole = (images / "a.png").read_bytes()
    (images / "cut.png").write_bytes(whole[:-30])
    (images / "gone.png").symlink_to(images / "nowhere.png")
    image(images / "folder.png")
    (labels / "folder.txt").mkdir()
    index = load_index(data, "train", cache_dir=tmp_path / "cache")
    assert [p.name for p in index.paths] == ["12.png", "a.png", "b.png", "folder.png"]
    assert index.report.corrupt == 2
    assert index.report.absent == 1
    assert index.report.dropped == 2
    text = "\n".join(index.report.lines())
    for part in ("cut.png: image left out", "gone.png: image left out", "folder.txt: cannot be read"):
        assert part in text


def test_an_image_listed_twice_counts_once(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{data.root}/images/a.png\n{data.root}/labels/../images/a.png\n")
    config = DataConfig(tmp_path, tmp_path, data.names, {"val": (tmp_path / "list.txt", data.root / "images")})
    assert len(load_index(config, "val", cache_dir=tmp_path / "cache")) == 3


def test_coco_json_with_crowd_mask_area_and_missing_image(tmp_path: Path) -> None:
    image(tmp_path / "images/a.jpg")
    annotation = {
        "id": 1,
        "image_id": 9,
        "category_id": 3,
        "bbox": [20, 30, 40, 50],
        "area": 777,
        "segmentation": [[20, 30, 60, 30, 60, 80]],
    }
    crowd = {**annotation, "id": 2, "iscrowd": 1, "segmentation": {"counts": [1], "size": [1, 1]}}
    images = [{"id": 9, "file_name": "a.jpg"}, {"id": 10, "file_name": "b.jpg"}]
    content = {"images": images, "annotations": [crowd, annotation], "categories": [{"id": 3, "name": "x"}]}
    label(tmp_path / "instances.json", json.dumps(content))
    index = load_index(load_data(tmp_path / "instances.json"), "val", cache_dir=tmp_path / "cache")
    assert index.image_ids == (9,)
    np.testing.assert_allclose(index.annotations_of(0), [[0, 0.2, 0.55, 0.2, 0.5]], rtol=1e-6)
    assert [s.shape for s in index.polygons_of(0)] == [(3, 2)]
    assert index.ground_truth(0).crowd.tolist() == [True, False]
    assert index.ground_truth(0).area.tolist() == [777, 777]
    np.testing.assert_allclose(index.ground_truth(0).xyxy, [[20, 30, 60, 80]] * 2, rtol=1e-5)
    assert (
        index.report.summary() == "val: 1 images, 1 labelled, 0 background, 0 corrupt, 1 absent; 1 boxes and 1 crowd; 0 annotations dropped"
    )


def test_labels_that_are_no_files_cost_their_boxes_only(data: DataConfig, tmp_path: Path) -> None:
    os.mkfifo(data.root / "labels/12.txt")
    (data.root / "labels/b.txt").unlink()
    (data.root / "labels/b.txt").mkdir()
    for _ in range(2):  # the second time from the cache
        report = load_index(data, "train", cache_dir=tmp_path / "cache").report
        assert report.summary() == "train: 3 images, 1 labelled, 2 background, 1 corrupt; 2 boxes; 3 annotations dropped"
        assert report.kinds == {"image": 1, "file": 2, "class": 1}
        assert {f.text for f in report.findings if f.kind == "file"} == {"cannot be read (not a file)"}


def test_images_of_a_coco_json_that_come_later_are_found_where_they_come(tmp_path: Path) -> None:
    content = {"images": [{"id": 9, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": 3, "name": "x"}]}
    label(tmp_path / "annotations/instances.json", json.dumps(content))
    data = load_data(tmp_path / "annotations/instances.json")
    with pytest.raises(UserError, match="no usable image"):
        load_index(data, "val", cache_dir=tmp_path / "cache")
    image(tmp_path / "images/a.jpg")
    assert load_index(data, "val", cache_dir=tmp_path / "cache").paths == (tmp_path / "images/a.jpg",)


def test_coco128_from_txt_and_from_json(shared: Path, tmp_path: Path) -> None:
    txt = load_index(load_data(shared / "coco128/coco128.yaml"), "val", cache_dir=tmp_path / "cache")
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({"path": str(shared / "coco128"), "val": "annotations/instances_train2017.json"}))
    for source in (shared / "coco128/annotations/instances_train2017.json", tmp_path / "d.yaml"):
        coco = load_index(load_data(source), "val", cache_dir=tmp_path / "cache")
        assert len(txt) == len(coco) == 128
        assert [p.name for p in txt.paths] == [p.name for p in coco.paths]
        assert txt.image_ids == coco.image_ids
        assert txt.report.boxes == coco.report.boxes == 929
        assert coco.report.crowd == 10
        assert coco.nc == 80
        for i in range(128):
            a, b = txt.annotations_of(i), coco.annotations_of(i)
            np.testing.assert_allclose(a[np.lexsort(np.rint(a.T * 500))], b[np.lexsort(np.rint(b.T * 500))], atol=3e-3)


def test_the_fruits_as_they_are(shared: Path, tmp_path: Path) -> None:
    data = load_data(shared / "fruits")
    train, test = (load_index(data, split, cache_dir=tmp_path / "cache") for split in ("train", "test"))
    assert train.report.summary() == "train: 240 images, 240 labelled, 0 background, 0 corrupt; 465 boxes; 0 annotations dropped"
    assert test.report.summary() == "test: 60 images, 60 labelled, 0 background, 0 corrupt; 117 boxes; 0 annotations dropped"
    assert np.bincount(train.annotations[:, 0].astype(int)).tolist() == [156, 169, 140]
    np.testing.assert_allclose(
        train.ground_truth(0).xyxy, [[7, 14, 331, 349]], rtol=1e-5
    )  # apple_1: no size in the XML, an RGBA PNG called .jpg


# -- the cache


def test_the_cache_gives_the_same_and_opens_no_image(data: DataConfig, tmp_path: Path, opened: list[str]) -> None:
    first = load_index(data, "train", cache_dir=tmp_path / "cache")
    assert len(opened) == 4
    second = load_index(data, "val", cache_dir=tmp_path / "cache")
    assert len(opened) == 4
    assert second.report.split == "val"
    assert second.report.findings == first.report.findings
    for name in ("sizes", "annotations", "starts", "areas", "crowds", "points", "point_starts"):
        assert (getattr(first, name) == getattr(second, name)).all()
        assert getattr(first, name).dtype == getattr(second, name).dtype


def test_an_edit_of_equal_size_and_time_is_noticed(data: DataConfig, tmp_path: Path) -> None:
    load_index(data, "train", cache_dir=tmp_path / "cache")
    file = data.root / "labels/a.txt"
    before = file.stat()
    file.write_text(file.read_text().replace("0 0.5 0.5 0.2", "1 0.5 0.5 0.2"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_index(data, "train", cache_dir=tmp_path / "cache").annotations_of(1)[:, 0].tolist() == [1, 1]


def test_only_new_and_changed_images_are_opened_again(data: DataConfig, tmp_path: Path, opened: list[str]) -> None:
    load_index(data, "train", cache_dir=tmp_path / "cache")
    opened.clear()
    image(data.root / "images/b.png", 50, 60)
    image(data.root / "images/new.png")
    index = load_index(data, "train", cache_dir=tmp_path / "cache")
    assert sorted(opened) == ["b.png", "new.png"]
    assert index.sizes.tolist() == [[100, 200], [100, 200], [50, 60], [100, 200]]
    (data.root / "images/new.png").unlink()
    assert len(load_index(data, "train", cache_dir=tmp_path / "cache")) == 3


@pytest.mark.parametrize("names", [["x"], ["x", "y", "z", *"abcde"]])
def test_other_class_names_are_noticed(data: DataConfig, tmp_path: Path, names: list[str]) -> None:
    load_index(data, "train", cache_dir=tmp_path / "cache")
    changed = DataConfig(data.yaml, data.root, dict(enumerate(names)), data.splits)
    assert load_index(changed, "train", cache_dir=tmp_path / "cache").report.boxes == (1 if len(names) == 1 else 3)


def test_damaged_and_foreign_caches_are_rebuilt_and_never_unpickled(data: DataConfig, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return os.mkdir, (str(tmp_path / "trapped"),)

    load_index(data, "train", cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    poisoned = tmp_path / "poisoned.npz"
    np.savez(poisoned, text=np.array([Trap()], dtype=object), annotations=np.array([Trap()], dtype=object))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (b"", whole[: len(whole) // 2], whole[:-1], bytes(flipped), b"PK\3\4", poisoned.read_bytes(), pickle.dumps(Trap())):
        file.write_bytes(content)
        assert load_index(data, "train", cache_dir=tmp_path / "cache").report.boxes == 2
        assert not (tmp_path / "trapped").exists()
    with np.load(file, allow_pickle=False) as stored:  # an honest file whose offsets lie
        arrays = dict(stored)
    arrays["starts"] = arrays["starts"] + 1
    np.savez(file, **arrays)
    assert load_index(data, "train", cache_dir=tmp_path / "cache").report.boxes == 2


def test_a_cache_folder_that_cannot_be_written_is_no_error(data: DataConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert load_index(data, "train", cache_dir=tmp_path / "file/cache").report.boxes == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "set"]


def test_the_cache_s_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from utils.files.cache_folder import cache_folder

    monkeypatch.setenv("ATTUNE_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder("c") == Path("c")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("ATTUNE_CACHE")
    assert cache_folder() == Path("/b/attune")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/attune"
