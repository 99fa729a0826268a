"""The files of detections: category ids, rows, names."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from utils.evaluation.predictions import COCO_IDS, category_ids, label_files, write_json, write_txt

ROWS = np.array([[10, 20, 30, 60, 0.123456, 1], [0, 0, 100.00049, 50, 0.9, 0]], np.float32)
INDEX: Any = SimpleNamespace(paths=(Path("d/a.jpg"), Path("d/b.jpg")), sizes=np.array([[200, 100], [50, 50]]), image_ids=(7, "b"))


def test_coco_ids() -> None:
    assert len(COCO_IDS) == 80
    assert (COCO_IDS[0], COCO_IDS[11], COCO_IDS[26], COCO_IDS[79]) == (1, 13, 31, 90)  # person, stop sign, handbag, toothbrush
    names = {c: str(c) for c in range(80)} | {0: "person", 79: "toothbrush"}
    assert category_ids(names, [])[79] == 90
    assert category_ids({0: "a", 1: "b"}, [Path("images")]) == {0: 0, 1: 1}


def test_coco_ids_are_those_of_its_file(shared: Path) -> None:
    listed = json.loads((shared / "coco128/annotations/instances_train2017.json").read_text())["categories"]
    assert tuple(sorted(c["id"] for c in listed)) == COCO_IDS


def test_a_json_says_its_own_ids(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"categories": [{"id": 30, "name": "b"}, {"id": 20, "name": "a"}]}))
    assert category_ids({0: "a", 1: "b"}, [tmp_path / "t.json"]) == {0: 20, 1: 30}


def test_json_rows(tmp_path: Path) -> None:
    write_json(tmp_path / "p.json", [(0, ROWS), (1, ROWS[:0])], INDEX, {0: 5, 1: 6})
    assert json.loads((tmp_path / "p.json").read_text()) == [
        {"image_id": 7, "category_id": 6, "bbox": [10.0, 20.0, 20.0, 40.0], "score": 0.12346, "file_name": "a.jpg"},
        {"image_id": 7, "category_id": 5, "bbox": [0.0, 0.0, 100.0, 50.0], "score": 0.9, "file_name": "a.jpg"},
    ]


@pytest.mark.parametrize(
    ("paths", "stems", "ids", "names"),
    [
        (("d/day/001.jpg", "d/night/001.jpg"), (1, 1), ["day/001", "night/001"], ["day/001.jpg", "night/001.jpg"]),
        (("d/001.jpg", "d/1.jpg"), (1, 1), ["001", "1"], ["001.jpg", "1.jpg"]),
        (("d/a.jpg", "d/a.png"), ("a", "a"), ["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (("d/v1.2.jpg", "d/v1.3.jpg"), ("v1.2", "v1.3"), ["v1.2", "v1.3"], ["v1.2.jpg", "v1.3.jpg"]),
    ],
)
def test_every_image_has_an_id_of_its_own(
    tmp_path: Path, paths: tuple[str, ...], stems: tuple[int | str, ...], ids: list[str], names: list[str]
) -> None:
    index: Any = SimpleNamespace(paths=tuple(map(Path, paths)), image_ids=stems)
    write_json(tmp_path / "p.json", [(0, ROWS[:1]), (1, ROWS[:1])], index, {0: 0, 1: 1})
    entries = json.loads((tmp_path / "p.json").read_text())
    assert ([e["image_id"] for e in entries], [e["file_name"] for e in entries]) == (ids, names)


@pytest.mark.parametrize(("confidence", "first"), [(False, "1 0.2 0.2 0.2 0.2"), (True, "1 0.2 0.2 0.2 0.2 0.123456")])
def test_txt_rows(tmp_path: Path, confidence: bool, first: str) -> None:
    for _ in range(2):  # a second run replaces, it does not append
        write_txt(tmp_path, [(0, ROWS), (1, ROWS[:0])], INDEX, confidence=confidence)
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert len(lines) == 2
    assert lines[0] == first
    assert not (tmp_path / "b.txt").exists()


def test_equal_stems_get_files_of_their_own() -> None:
    assert label_files([Path("/x/1.jpg"), Path("/y/2.jpg")]) == [Path("1.txt"), Path("2.txt")]
    assert label_files([Path("/x/p/1.jpg"), Path("/x/q/1.jpg")]) == [Path("p/1.txt"), Path("q/1.txt")]
    assert label_files([Path("/x/1.jpg"), Path("/x/1.png")]) == [Path("1.jpg.txt"), Path("1.png.txt")]
