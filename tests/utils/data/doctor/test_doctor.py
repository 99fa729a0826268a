"""The doctor finds what is wrong, says where, and touches nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from utils.config import ROOT
from utils.data.doctor import __main__ as doctor
from utils.data.doctor.diagnosis import Diagnosis, diagnose
from utils.data.doctor.findings import FindingGroup
from utils.data.doctor.report import as_json, as_text
from utils.data.shapes import draw, write_dataset


def picture(path: Path, number: int, *, quality: int = 95, scale: float = 1.0) -> None:
    """Drawing `number`, the same for every path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = cv2.resize(draw(0, "train", number, 128)[0], None, fx=scale, fy=scale)
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def label(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four training and three validation images without a fault; classes a and b."""
    root = tmp_path / "set"
    for number, name in enumerate(("train/1", "train/2", "train/3", "train/4", "val/5", "val/6", "val/7")):
        picture(root / f"images/{name}.jpg", number)
        label(root / f"labels/{name}.txt", "0 0.3 0.3 0.2 0.2\n1 0.7 0.7 0.3 0.3\n")
    label(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: [a, b]\n")
    return root


def examine(source: Path, imgsz: int = 640) -> Diagnosis:
    return diagnose(source, imgsz=imgsz, distance=10)


def groups(found: Diagnosis, *, least: str = "warning") -> dict[tuple[str, str], FindingGroup]:
    return {(group.kind, group.split): group for group in found.groups if least == "note" or group.severity != "note"}


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_mode, p.read_bytes()) for p in files}


def test_a_clean_dataset(root: Path) -> None:
    found = examine(root)
    assert found.clean
    assert found.groups == []
    assert [(s.name, s.images, s.labelled, s.boxes, s.classes) for s in found.splits] == [
        ("train", 4, 4, 8, [4, 4]),
        ("val", 3, 3, 6, [3, 3]),
    ]
    assert found.splits[0].image_formats == {"JPEG": 4}
    assert found.splits[0].label_formats == {"txt": 4}
    assert found.splits[0].width == (128, 128, 128)
    assert found.splits[0].box_side == (128, 160, 192)
    assert list(as_text(found, 5))[-1] == "nothing is wrong (0 errors, 0 warnings, 0 notes)"


def test_images_that_are_in_two_splits(root: Path) -> None:
    (root / "images/val/same.jpg").symlink_to(root / "images/train/1.jpg")
    (root / "images/val/copy.jpg").write_bytes((root / "images/train/2.jpg").read_bytes())
    picture(root / "images/val/similar.jpg", 2, quality=40, scale=0.7)
    for name in ("same", "copy", "similar"):
        label(root / f"labels/val/{name}.txt", "0 .5 .5 .1 .1")
    found = examine(root / "data.yaml")
    (group,) = groups(found).values()
    assert (group.kind, group.severity, group.split, group.count) == ("leak", "error", "val", 3)
    assert group.advice.startswith("of 6; 1 the same files, 1 copies, 1 that look the same")
    texts = {Path(f.path).name: f.text for f in group.findings}
    assert texts["same.jpg"] == f"the same file as {root}/images/train/1.jpg"
    assert texts["copy.jpg"] == f"the same bytes as {root}/images/train/2.jpg"
    assert texts["similar.jpg"].startswith("looks like (")
    assert texts["similar.jpg"].endswith(f" of 64 bits differ) {root}/images/train/3.jpg")


def test_images_that_are_twice_in_one_split(root: Path) -> None:
    (root / "images/train/copy.jpg").write_bytes((root / "images/train/2.jpg").read_bytes())
    picture(root / "images/train/similar.jpg", 2, quality=40)
    for name in ("copy", "similar"):
        label(root / f"labels/train/{name}.txt", "0 .5 .5 .1 .1")
    found = groups(examine(root))
    (copy,) = found["copy", "train"].findings
    assert (copy.path, copy.text) == (f"{root}/images/train/copy.jpg", f"the same bytes as {root}/images/train/2.jpg")
    assert found["similar", "train"].count == 1
    assert found.keys() == {("copy", "train"), ("similar", "train")}


def test_labels_images_and_classes(root: Path) -> None:
    label(root / "labels/train/1.txt", "0 .5 .5 .1 .1\n9 .5 .5 .1 .1\n0 nan .5 .1 .1\n0 .5 .5 .1\n0 .5 .5 .1 .1\n")
    (root / "labels/train/2.txt").unlink()
    label(root / "labels/train/3.txt", "")
    label(root / "labels/train/orphan.txt", "0 .5 .5 .1 .1")
    label(root / "labels/train/classes.txt", "a\nb\n")
    (root / "images/train/4.jpg").write_bytes((root / "images/train/4.jpg").read_bytes()[:300])
    for name in ("5", "6", "7"):
        label(root / f"labels/val/{name}.txt", "1 .5 .5 .1 .1")
    found = examine(root)
    seen = groups(found, least="note")
    counts = sorted((group.kind, group.split, group.count) for group in found.groups)
    assert counts == [
        ("background", "train", 1),
        ("class", "train", 1),  # 9
        ("class", "train", 1),  # no 1 is left
        ("class", "val", 1),  # no 0 is left
        ("columns", "train", 1),
        ("image", "train", 1),
        ("range", "train", 1),
        ("repetition", "train", 1),
        ("stray", "", 1),
        ("unlabelled", "train", 1),
    ]
    rows = {(f.row, f.kind) for group in found.groups for f in group.findings if f.path == f"{root}/labels/train/1.txt"}
    assert rows == {(2, "class"), (3, "range"), (4, "columns"), (5, "repetition")}
    assert seen["stray", ""].findings[0].path == f"{root}/labels/train/orphan.txt"
    assert seen["unlabelled", "train"].findings[0].path == f"{root}/images/train/2.jpg"


def test_what_train_would_refuse(root: Path) -> None:
    """Crowds only: an error, with their number beside that of the boxes."""
    annotations = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [9, 9, 40, 40], "iscrowd": 1} for n in range(8)]
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    (root / "images/train/all.json").write_text(json.dumps(content))
    found = examine(root / "images/train/all.json")
    text = "\n".join(as_text(found, 5))
    assert (found.clean, found.splits[0].crowd) == (False, 8)
    assert "ERROR   all: splits without a box: 1" in text
    assert "'all' has no box to train on: all 8 annotations are crowds" in text
    assert text.splitlines()[2].split() == [
        "images",
        "labelled",
        "background",
        "unusable",
        "absent",
        "boxes",
        "crowd",
        "dropped",
        "boxes",
        "an",
        "image",
    ]


def test_classes(root: Path) -> None:
    label(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: [a, b, 'A ', d]\n")
    label(root / "labels/train/1.txt", "2 .5 .5 .1 .1")
    texts = [f.text for group in examine(root).groups for f in group.findings]
    assert texts == [
        "classes 0 and 2 have the same name 'A ' but for case and spaces",
        "class 3 (d)",
        "class 2 (A ): boxes in train 1",
    ]


def test_labels_counted_from_one(root: Path) -> None:
    for path in (root / "labels").rglob("*.txt"):
        label(path, "1 0.3 0.3 0.2 0.2\n2 0.7 0.7 0.3 0.3\n")
    errors = [group for group in examine(root).groups if group.severity == "error"]
    assert [group.count for group in errors] == [4, 3]
    assert all("counted from 1" in group.advice for group in errors)


def test_boxes(root: Path) -> None:
    label(root / "labels/train/1.txt", "\n0 .5 .5 .004 .2\n1 .5 .5 .3 .3\n\n1 .5 .5 .3 .31\n0 .2 .2 .3 .3\n1 .2 .2 .3 .3\n")
    label(root / "labels/train/2.txt", "0 .5 .5 .004 .2\n7 .5 .5 .1 .1\n")
    found = [group for group in examine(root, imgsz=320).groups if group.kind in ("tiny", "overlap")]
    assert [(g.kind, g.count) for g in found] == [("tiny", 2), ("overlap", 1), ("overlap", 1)]
    assert [(Path(f.path).name, f.row, f.text) for g in found for f in g.findings] == [
        ("1.txt", 2, "a at 0.500 0.500 is 1.3 x 64.0 pixels"),
        ("2.txt", 0, "a at 0.500 0.500 is 1.3 x 64.0 pixels"),
        ("1.txt", 5, "b at 0.500 0.500 and b at 0.500 0.500 have an IoU of 0.97"),
        ("1.txt", 7, "b at 0.200 0.200 and a at 0.200 0.200 have an IoU of 1.00"),
    ]
    assert not any(group.kind == "tiny" for group in examine(root, imgsz=960).groups)


def test_paths(root: Path) -> None:
    for name in ("A.jpg", "a.jpg", "b?.jpg", " c.jpg"):
        picture(root / "images/val" / name, 20 + len(name) + ord(name[0]))
    picture(root / "images/val/a.png", 30)
    (root / "images/val/5.jpg").rename(root / os.fsdecode(b"images/val/\xff.jpg"))
    (root / "images/val/gone.jpg").symlink_to("nowhere.jpg")
    found = groups(examine(root))
    assert found["path", "val"].count == 4
    assert found["image", "val"].findings[0].text == "image left out: cannot be read (No such file or directory)"
    text = as_json(examine(root))
    assert "\\udcff.jpg" in text


def test_an_undecodable_image_with_a_sound_header(root: Path) -> None:
    path = root / "images/val/5.webp"
    (root / "images/val/5.jpg").unlink()
    picture(path, 4)
    data = bytearray(path.read_bytes())
    data[40:] = bytes(len(data) - 40)
    path.write_bytes(data)
    group = groups(examine(root))["image", "val"]
    assert group.title == "images with a valid header and damaged data"
    assert group.count == 1


def test_splits_that_are_not_there(root: Path) -> None:
    label(
        root / "data.yaml", "path: .\ntrain: images/train\nval: images/gone\ntest: images/val\nnames: [a, b]\ndownload: https://x.y/z.zip\n"
    )
    (group,) = groups(examine(root)).values()
    assert (group.severity, group.title, group.count) == ("error", "missing splits", 1)
    assert "images/gone not found; tried" in group.findings[0].text
    (root / "empty").mkdir()
    label(root / "data.yaml", "path: .\ntrain: images/train\nval: list.md\nnames: [a, b]\n")
    label(root / "list.md", "")
    assert [g.title for g in examine(root).groups] == ["splits that cannot be read"]


def test_a_json_is_one_split_and_says_what_it_lacks(root: Path) -> None:
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "gone.jpg"}]
    annotations = [
        {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]},
        {"id": 6, "image_id": 1, "category_id": 1, "bbox": [1]},
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    label(root / "images/train/instances.json", json.dumps(content))
    found = examine(root / "images/train/instances.json")
    assert [s.name for s in found.splits] == ["all"]
    assert {key: group.count for key, group in groups(found).items()} == {("image", "all"): 1, ("number", "all"): 1}


def test_equal_splits_are_said_once(root: Path) -> None:
    label(root / "data.yaml", "path: .\ntrain: images/train\nval: images/train\nnames: [a, b]\n")
    label(root / "labels/train/1.txt", "9 .5 .5 .1 .1")
    found = examine(root)
    assert [(g.split, g.kind, g.count) for g in found.groups] == [("train, val", "class", 1), ("val", "leak", 4)]


def test_text_shows_a_few_and_all(root: Path) -> None:
    label(root / "labels/train/1.txt", "9 .5 .5 .1 .1\n" * 60)
    lines = list(as_text(examine(root), 2))
    at = next(i for i, line in enumerate(lines) if line.startswith("ERROR"))
    assert lines[at] == "ERROR   train: classes that the dataset does not have: 60 (these boxes are left out)"
    assert lines[at + 1].startswith("        labels/train/1.txt:1: class 9 is outside 0 to 1")
    assert lines[at + 3] == "        ... and 58 more (--all)"
    lines = list(as_text(examine(root), 10**9, everything=True))
    assert "        ... and 10 more" in lines


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "utils.data.doctor", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def test_the_command_writes_nothing_but_its_report(root: Path, tmp_path: Path) -> None:
    label(root / "labels/train/1.txt", "9 .5 .5 .1 .1")
    cache = tmp_path / "cache"
    before = state(tmp_path)
    done = run(root, "--json", "-", env={**os.environ, "ATTUNE_CACHE": str(cache), "HOME": str(tmp_path / "home")})
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["errors"] == 1
    assert state(tmp_path) == before
    assert not cache.exists()


def test_status(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, status in (((root,), 0), ((root, "--json", tmp_path / "x.json"), 0), ((root / "images" / "train" / "1.jpg",), 2)):
        monkeypatch.setattr(sys, "argv", ["doctor", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            doctor.run(doctor.main)
        assert ended.value.code == status
    assert json.loads((tmp_path / "x.json").read_text())["clean"] is True
    assert "a dataset is a .yaml, a COCO .json, or a folder" in capsys.readouterr().err


def test_coco128_measures_on_what_it_learns(shared: Path) -> None:
    found = examine(shared / "coco128" / "coco128.yaml")
    (leak,) = (group for group in found.groups if group.kind == "leak")
    assert (leak.split, leak.count) == ("val", 128)
    assert {f.text for f in leak.findings} == {"the same file"}
    assert [s.boxes for s in found.splits] == [929, 929]
    assert sum(group.count for group in found.groups if group.severity == "error") == 128


def test_the_drawn_shapes_are_clean(tmp_path: Path) -> None:
    found = examine(write_dataset(tmp_path, {"train": 12, "val": 6}, size=160))
    assert not [g for g in found.groups if g.severity == "error"]
    assert not [g for g in found.groups if g.kind in ("leak", "copy", "similar")]


def test_the_count_stays_exact_where_pairs_are_too_many_to_list(tmp_path: Path) -> None:
    """A box of each of 150 sizes: all 11 175 pairs overlap, of which 10 000 are kept."""
    data = write_dataset(tmp_path / "d", {"train": 1, "val": 1}, size=96)
    (label,) = (tmp_path / "d" / "labels" / "train").iterdir()
    label.write_text("".join(f"0 .5 .5 {0.8 + number * 1e-4:.5f} .8\n" for number in range(150)))
    groups = [group for group in diagnose(data, imgsz=640, distance=10).groups if group.kind == "overlap" and group.split == "train"]
    assert [(group.count, len(group.findings)) for group in groups] == [(150 * 149 // 2, 10_000)]
    assert {finding.row for finding in groups[0].findings} <= set(range(1, 151))
