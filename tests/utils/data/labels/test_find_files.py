"""Images of folders and lists, and the label file that belongs to each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from utils.data.labels.find_files import entry_images, list_images, with_labels
from utils.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def label_of(root: Path, image: str) -> str | None:
    (item,) = with_labels([root / image])
    return str(item.label.relative_to(root)) if item.label else None


def test_folders_are_searched_below_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.PNG", "sub/deep/c.jpeg", "notes.txt", "movie.mp4", "d.jpg.bak")
    assert [str(p.relative_to(tmp_path)) for p in list_images(tmp_path)[0]] == ["a.PNG", "b.jpg", "sub/deep/c.jpeg"]


def test_links_to_folders_are_followed_but_not_in_a_loop(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "images/loop").symlink_to(tmp_path / "images")
    (tmp_path / "images/more").symlink_to(tmp_path / "elsewhere")
    assert [p.name for p in list_images(tmp_path / "images")[0]] == ["a.jpg", "b.jpg"]


def test_a_folder_comes_before_links_to_it(tmp_path: Path) -> None:
    touch(tmp_path, "images/z/a.jpg")
    (tmp_path / "images/b").symlink_to(tmp_path / "images/z")
    assert list_images(tmp_path / "images")[0] == [tmp_path / "images/z/a.jpg"]


def test_what_runs_wrote_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``train: .`` in a working folder."""
    touch(
        tmp_path, "a.jpg", "runs/train/exp/labels.jpg", "runs/detect/exp2/b.jpg", "out/mine/opt.yaml", "out/mine/hyp.yaml", "out/mine/c.jpg"
    )
    touch(tmp_path, "out/val/metrics.json", "out/val/per_class.csv", "out/val/d.jpg", "set/runs/train/images/e.jpg", "f/runs/val/g.jpg")
    kept = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)[0]]
    assert kept == ["a.jpg", "f/runs/val/g.jpg", "set/runs/train/images/e.jpg"]
    assert f"{tmp_path}/runs/detect: holds the output of runs; its images are left out" in caplog.text
    assert len(list_images(tmp_path / "runs/detect")[0]) == 1  # named itself


def test_a_folder_called_like_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "clip.gif/1.jpg")
    (tmp_path / "b.jpg").mkdir()
    assert [str(p.relative_to(tmp_path)) for p in list_images(tmp_path)[0]] == ["a.jpg", "b.jpg", "clip.gif/1.jpg"]


def test_a_folder_below_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.jpg", "shut/b.jpg")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert [p.name for p in list_images(tmp_path)[0]] == ["a.jpg"]
    assert "shut: this folder cannot be listed (Permission denied)" in caplog.text


def test_a_pipe_for_a_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UserError, match="not a file"):
        entry_images(tmp_path / "list.txt")


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "data/images/a.jpg", "work/b.jpg")
    monkeypatch.chdir(tmp_path / "work")
    lines = f"\ufeff./images/a.jpg\r\n\nb.jpg\n{tmp_path}/data/images/a.jpg\nimages/missing.jpg\n"
    (tmp_path / "data/list.txt").write_text(lines, encoding="utf-8")
    a = tmp_path / "data/images/a.jpg"
    assert entry_images(tmp_path / "data/list.txt")[0] == [a, tmp_path / "work/b.jpg", a, tmp_path / "data/images/missing.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_lists_as_other_systems_write_them(tmp_path: Path, encoding: str) -> None:
    """PowerShell writes UTF-16, old editors Windows-1252; shells quote names, and people comment lines."""
    touch(tmp_path, "images/käse 1.jpg", "images/b.jpg", "#c.jpg")
    lines = ["# the training images", "images\\käse 1.jpg", '"images/b.jpg"', "#c.jpg", "images/none", ""]
    (tmp_path / "list.txt").write_bytes("\r\n".join(lines).encode(encoding))
    found = [str(path.relative_to(tmp_path)) for path in entry_images(tmp_path / "list.txt")[0]]
    assert found == ["images/käse 1.jpg", "images/b.jpg", "#c.jpg", "images/none"]


def test_a_list_of_bytes_that_are_no_names(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\0b.jpg\n\xff\xfe.jpg\n" + b"x" * 400 + b".jpg\n")
    items = list(with_labels(entry_images(tmp_path / "list.txt")[0]))
    assert [item.label for item in items] == [None] * 3


def test_voc_image_sets(tmp_path: Path) -> None:
    touch(tmp_path, "VOC2007/JPEGImages/000005.jpg", "VOC2007/Annotations/000005.xml", "VOC2007/ImageSets/Main/train.txt")
    (tmp_path / "VOC2007/ImageSets/Main/train.txt").write_text("000005 -1\n")
    (item,) = with_labels(entry_images(tmp_path / "VOC2007/ImageSets/Main/train.txt")[0])
    assert item.path == tmp_path / "VOC2007/JPEGImages/000005.jpg"
    assert item.label == tmp_path / "VOC2007/Annotations/000005.xml"


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("images/x/images/a.jpg", "images/x/labels/a.txt"),
        ("images/train/a.jpg", "annotations/train/a.xml"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("a.jpg", "a.txt"),
        ("train/a.jpg", "train/a.xml"),
        ("JPEGImages/a.jpg", "Annotations/a.xml"),
        ("photos/a.jpg", "Annotations/a.xml"),
        ("photos/a.jpg", "labels/a.txt"),
        ("images/a.jpg", "images/a.txt"),
        ("Images/train/a.jpg", "Labels/train/a.txt"),
    ],
)
def test_where_labels_lie(tmp_path: Path, image: str, label: str) -> None:
    touch(tmp_path, image, label)
    assert label_of(tmp_path, image) == label


def test_the_parallel_folder_comes_first_and_nothing_is_made_up(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/a.txt", "labels/a.txt", "images/b.jpg")
    assert label_of(tmp_path, "images/a.jpg") == "labels/a.txt"
    assert label_of(tmp_path, "images/b.jpg") is None


def test_a_given_label_folder(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "photos/a.txt", "marks/a.xml")
    (item,) = with_labels([tmp_path / "photos/a.jpg"], tmp_path / "marks")
    assert item.label == tmp_path / "marks/a.xml"


def test_what_is_no_entry(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv")
    with pytest.raises(UserError, match=r"a\.csv: expected a folder of images"):
        entry_images(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"b\.txt: cannot be read"):
        entry_images(tmp_path / "b.txt")
