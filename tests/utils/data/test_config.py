"""Data sets are found where the YAML, the working directory or custom has them, and mistakes are named."""

from __future__ import annotations

import json
import logging
import unicodedata
from pathlib import Path

import pytest
import yaml

from utils.config import ROOT
from utils.data.config import load_data
from utils.data.labels.class_names import check_names
from utils.errors import UserError


def tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)


def write(path: Path, /, **content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_yaml_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "set/images/train", "set/images/val", "images/train", "images/val")
    monkeypatch.chdir(tmp_path)
    data = load_data(write(tmp_path / "set/data.yaml", path=".", train="images/train", val=["images/val"], names=["a", "b"]))
    assert data.root == tmp_path / "set"
    assert data.splits == {"train": (tmp_path / "set/images/train",), "val": (tmp_path / "set/images/val",)}
    assert data.names == {0: "a", 1: "b"}
    assert data.nc == 2


def test_then_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "datasets/x/images", "repo/cfg")
    (tmp_path / "repo").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "repo")
    data = load_data(write(tmp_path / "repo/cfg/data.yaml", path="../datasets/x", train="images", val="images", names=["a"]))
    assert data.entries("val")[0].resolve() == tmp_path / "datasets/x/images"


def test_folders_of_another_spelling(tmp_path: Path) -> None:
    tree(tmp_path, f"{unicodedata.normalize('NFD', 'café')}/Images/my train", "val%20set")
    data = load_data(write(tmp_path / "data.yaml", path="café", train="images/my%20train", val="val set", names=["a"]))
    assert data.entries("train") == (tmp_path / unicodedata.normalize("NFD", "café") / "Images/my train",)
    assert data.entries("val") == (tmp_path / "val%20set",)


def test_roboflow_s_paths(tmp_path: Path) -> None:
    tree(tmp_path, "r/train/images", "r/valid/images")
    path = write(tmp_path / "r/data.yaml", train="../train/images", val="../valid/images", test="../test/images", nc=1, names=["a"])
    data = load_data(path)
    assert data.splits == {"train": (tmp_path / "r/train/images",), "val": (tmp_path / "r/valid/images",)}
    with pytest.raises(UserError, match=r"test: \.\./test/images not found; tried .*test/images"):
        data.entries("test")


def test_all_tried_paths_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "cfg/data.yaml", path="../nowhere", train="images/t", val="images/v", names=["a"])
    with pytest.raises(UserError) as error:
        load_data(path)
    for place in (tmp_path / "cfg/../nowhere/images/v", tmp_path / "../nowhere/images/v", tmp_path / "cfg/images/v", tmp_path / "images/v"):
        assert str(place) in str(error.value)


def test_test_serves_as_val(tmp_path: Path) -> None:
    tree(tmp_path, "train", "test")
    data = load_data(write(tmp_path / "data.yaml", train="train", test="test", names=["a"]))
    assert data.splits["val"] == data.splits["test"]
    with pytest.raises(UserError, match="needs 'val'"):
        load_data(write(tmp_path / "data.yaml", train="train", names=["a"]))


@pytest.mark.parametrize(
    ("key", "known"), [("trian", "train"), ("vall", "val"), ("name", "names"), ("paths", "path"), ("downlaod", "download")]
)
def test_a_mistyped_key_is_an_error(tmp_path: Path, key: str, known: str) -> None:
    tree(tmp_path, "images")
    with pytest.raises(UserError, match=f"unknown key '{key}'; did you mean '{known}'"):
        load_data(write(tmp_path / "data.yaml", train="images", val="images", names=["a"], **{key: 1}))


def test_other_tools_keys_cost_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("attune"), "propagate", True)
    tree(tmp_path, "images")
    load_data(write(tmp_path / "data.yaml", train="images", val="images", names=["a"], roboflow={"v": 1}, author="x", flip_idx=[1]))
    assert [r.getMessage() for r in caplog.records] == [f"{tmp_path / 'data.yaml'}: ignored keys: author, flip_idx, roboflow"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"nc": 3, "names": ["a", "b"]}, "nc is 3, but there are 2 names"),
        ({"nc": "3"}, "nc: '3' is not an integer"),
        ({"names": {0: "a", 2: "b"}}, "class ids must be 0 to 1 without a gap"),
        ({"names": {1: "a", 2: "b"}}, "class ids must be 0 to 1 without a gap"),
        ({"names": {"a": 0}}, "class ids must be 0 to 0 without a gap"),
        ({"names": ["yes", False]}, "1 is False, not a string"),
        ({"names": ["a", ["b"]]}, "not a string"),
        ({"names": "cat"}, "expected a list"),
    ],
)
def test_wrong_names(content: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        check_names(Path("d.yaml"), content)


@pytest.mark.parametrize("shape", [3, [17], [0, 2], [4, 4], ["4", 2], [True, 2]])
def test_wrong_key_points(tmp_path: Path, shape: object) -> None:
    tree(tmp_path, "images")
    with pytest.raises(UserError, match=r"kpt_shape: .* is not \[number of key points"):
        load_data(write(tmp_path / "data.yaml", train="images", val="images", names=["a"], kpt_shape=shape))


def test_right_key_points(tmp_path: Path) -> None:
    tree(tmp_path, "images")
    assert load_data(write(tmp_path / "data.yaml", train="images", val="images", names=["a"], kpt_shape=[17, 3])).keypoints == 51


def test_right_names() -> None:
    assert check_names(Path("d.yaml"), {"nc": 2, "names": {1: "b", 0: 7}}) == ({0: "7", 1: "b"}, 2)


@pytest.mark.parametrize("value", [3, {"images": "x"}, [["x"]], {"images": "a", "annotations": 3}])
def test_wrong_entries(tmp_path: Path, value: object) -> None:
    with pytest.raises(UserError, match=r"train: .* is not a path"):
        load_data(write(tmp_path / "data.yaml", train=value, val="x", names=["a"]))


def coco(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 4, "name": "x"}, {"id": 2, "name": "y"}]}))
    return path


def test_mappings_of_images_and_annotations(tmp_path: Path) -> None:
    tree(tmp_path, "pictures", "marks")
    coco(tmp_path / "ann/val.json")
    content = {"train": {"images": "pictures", "annotations": "marks"}, "val": {"images": "pictures", "annotations": "ann/val.json"}}
    data = load_data(write(tmp_path / "data.yaml", **content))
    assert data.splits == {"train": (tmp_path / "pictures",), "val": (tmp_path / "ann/val.json",)}
    assert data.partners == {tmp_path / "pictures": tmp_path / "marks", tmp_path / "ann/val.json": tmp_path / "pictures"}
    assert data.names == {0: "y", 1: "x"}  # none given: the JSON's, by id


def test_a_json_by_itself(tmp_path: Path) -> None:
    data = load_data(coco(tmp_path / "a.json"))
    assert data.entries("train") == data.entries("val") == (tmp_path / "a.json",)
    assert data.names == {0: "y", 1: "x"}
    with pytest.raises(UserError, match="no file"):
        load_data(tmp_path / "b.json")


def test_folders(tmp_path: Path) -> None:
    tree(tmp_path, "s/train/a.jpg", "s/valid/b.jpg", "t/images/train/a.jpg", "t/images/val/b.jpg", "u/a.jpg", "v/a.yaml", "v/b.yml")
    for name in ("s/train/a", "s/valid/b", "t/labels/train/a", "t/labels/val/b", "u/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.txt").write_text("2 .5 .5 .1 .1")
    assert load_data(tmp_path / "s").splits == {"train": (tmp_path / "s/train",), "val": (tmp_path / "s/valid",)}
    assert load_data(tmp_path / "s").names == {0: "0", 1: "1", 2: "2"}
    assert load_data(tmp_path / "t").splits == {"train": (tmp_path / "t/images/train",), "val": (tmp_path / "t/images/val",)}
    assert load_data(tmp_path / "u").entries("val") == (tmp_path / "u",)
    (tmp_path / "u/classes.txt").write_text("dog\ncat\nowl\n")
    assert load_data(tmp_path / "u").names == {0: "dog", 1: "cat", 2: "owl"}
    with pytest.raises(UserError, match=r"several YAML files \(a\.yaml, b\.yml\)"):
        load_data(tmp_path / "v")


def test_a_folder_with_one_yaml(tmp_path: Path) -> None:
    tree(tmp_path, "images")
    write(tmp_path / "any.yaml", train="images", val="images", names=["a"])
    assert load_data(tmp_path).yaml == tmp_path / "any.yaml"


def test_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.data.download.fetch", lambda *_: pytest.fail("downloads"))
    tree(tmp_path, "images/a.jpg")
    content = {"train": "images", "val": "gone", "test": "images", "names": ["a"], "download": "https://example.com/a.zip"}
    data = load_data(write(tmp_path / "data.yaml", **content), complete=False)
    assert data.absent.keys() == {"val"}
    assert data.splits.keys() == {"train", "test"}
    tree(tmp_path, "s/train/a.jpg")
    (tmp_path / "s/train/a.txt").write_text("0 .5 .5 .1 .1")
    assert load_data(tmp_path / "s", complete=False).splits.keys() == {"train"}


def test_no_labels_to_read_names_from(tmp_path: Path) -> None:
    tree(tmp_path, "s/train/a.jpg", "s/val/b.jpg")
    with pytest.raises(UserError, match="no class names are given"):
        load_data(tmp_path / "s")


@pytest.mark.parametrize("source", ["nowhere.yaml", "nowhere", "data/coc128.yaml", "README.md"])
def test_no_dataset(source: str) -> None:
    with pytest.raises(UserError):
        load_data(source)


@pytest.mark.parametrize("name", ["~nobody/images", "a\0b", "x" * 400, "/../\u202e"])
def test_paths_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    for content in ({"val": name}, {"path": name, "val": "images"}, {"val": {"images": name, "annotations": "x.json"}}):
        with pytest.raises(UserError, match="not found; tried"):
            load_data(write(tmp_path / "data.yaml", names=["a"], **content))
    with pytest.raises(UserError):
        load_data(name)


@pytest.mark.parametrize("text", ["[1]", "a: [", "!!python/object/apply:os.system ['true']", "path: 3\nval: x\nnames: [a]"])
def test_no_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(UserError, match=r"d\.yaml"):
        load_data(tmp_path / "d.yaml")


@pytest.mark.parametrize(("name", "nc"), [("coco", 80), ("coco128", 80), ("VOC", 20)])
def test_shipped_datasets(name: str, nc: int) -> None:
    content = yaml.safe_load((ROOT / "data" / f"{name}.yaml").read_text(encoding="utf-8"))
    names, _ = check_names(Path(name), content)
    assert len(names) == len(set(names.values())) == nc
    assert content["train"]
    assert content["val"]


def test_the_shared_sets(shared: Path) -> None:
    coco128 = load_data(shared / "coco128/coco128.yaml")
    assert (coco128.names[0], coco128.names[79]) == ("person", "toothbrush")
    assert load_data(shared / "coco128/annotations/instances_train2017.json").names == coco128.names
    fruits = load_data(shared / "fruits")
    assert fruits.names == {0: "apple", 1: "banana", 2: "orange"}
    assert fruits.splits["val"] == (shared / "fruits/test",)


@pytest.mark.parametrize(("encoding", "name"), [("cp1252", "Käse"), ("gb18030", "苹果"), ("utf-16", "Käse")])
def test_names_in_other_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / "d.yaml").write_bytes(f"train: .\nval: .\nnames: [{name}]\n".encode(encoding))
    assert load_data(tmp_path / "d.yaml").names == {0: name}


def test_ids_of_names_as_text_and_twice(tmp_path: Path) -> None:
    for given, expected in (("'0': a, 1.0: b", {0: "a", 1: "b"}), ("'0': a, 0: b", None)):
        (tmp_path / "d.yaml").write_text(f"train: .\nval: .\nnames: {{{given}}}\n")
        if expected:
            assert load_data(tmp_path / "d.yaml").names == expected
        else:
            with pytest.raises(UserError, match="without a gap"):
                load_data(tmp_path / "d.yaml")


def test_why_there_are_no_names(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "images/a.jpg").touch()
    (tmp_path / "labels/b.txt").write_text("0 0.5 0.5 0.5 0.5")
    with pytest.raises(UserError, match=r"labels/b\.txt belongs to no image: a label file is named as its image"):
        load_data(tmp_path)
    (tmp_path / "d.json").write_text('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}')
    with pytest.raises(UserError, match=r"d\.json: has no categories"):
        load_data(tmp_path / "d.json")


def test_backslashes_of_windows(tmp_path: Path) -> None:
    tree(tmp_path, "my set/images/train", "my set/val/images")
    data = load_data(write(tmp_path / "data.yaml", path=".\\my set", train="images\\train", val="..\\val\\images", names=["a"]))
    assert data.entries("train") == (tmp_path / "my set/images/train",)
    assert data.entries("val") == (tmp_path / "my set/val/images",)


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="or a folder; unpack it first"):
        load_data(tmp_path / "mine.zip")
