"""Names are matched as the tools write them: percent-encoded, decomposed, in another case; but never where two files could be meant."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from utils.data.labels.find_files import entry_images, stray_labels, with_labels
from utils.data.labels.match_names import FolderListings

ACCENT = unicodedata.normalize("NFC", "café")
APART = unicodedata.normalize("NFD", "café")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("photo 2.jpg", "photo%202.jpg"),
        ("photo%202.jpg", "photo 2.jpg"),
        (f"{APART}.jpg", f"{ACCENT}.jpg"),
        (f"{ACCENT}.jpg", f"{APART}.jpg"),
        (f"{APART}.jpg", "caf%C3%A9.jpg"),
        ("IMG.JPG", "img.jpg"),
        ("100%.jpg", "100%25.jpg"),
        ("a%2Fb.jpg", "a%2Fb.jpg"),
    ],
)
def test_one_file_written_otherwise(tmp_path: Path, there: str, asked: str) -> None:
    touch(tmp_path, there, "other.jpg")
    listings = FolderListings()
    assert listings.find(str(tmp_path), asked) == there
    assert listings.find_stem(str(tmp_path), asked.rpartition(".")[0]) == there


def test_the_nearest_spelling_wins_and_a_tie_is_no_match(tmp_path: Path) -> None:
    touch(tmp_path, "a b.jpg", "A B.jpg", "x%20y.jpg", "x y.jpg")
    listings = FolderListings()
    assert listings.find(str(tmp_path), "a%20b.jpg") == "a b.jpg"  # but for case "A B.jpg" would be as near
    assert listings.find(str(tmp_path), "A B.JPG") is None
    assert listings.find(str(tmp_path), "x%20y.jpg") == "x%20y.jpg"
    assert listings.find(str(tmp_path), "nothing.jpg") is None
    assert listings.find(str(tmp_path / "no folder"), "a.jpg") is None
    assert listings.find_path(str(tmp_path.parent), f"{tmp_path.name}/x y.jpg") == tmp_path / "x y.jpg"


def labels(root: Path) -> dict[str, str | None]:
    return {item.path.name: item.label and item.label.name for item in with_labels(entry_images(root)[0])}


def test_label_files(tmp_path: Path) -> None:
    touch(tmp_path, "images/photo 2.jpg", f"images/{ACCENT}.png", "images/IMG.JPG", "images/none.jpg")
    touch(tmp_path, "labels/photo%202.txt", f"labels/{APART}.txt", "labels/img.TXT")
    expected = {"photo 2.jpg": "photo%202.txt", f"{ACCENT}.png": f"{APART}.txt", "IMG.JPG": "img.TXT", "none.jpg": None}
    assert labels(tmp_path / "images") == expected


def test_a_label_file_belongs_to_the_image_that_is_called_so(tmp_path: Path) -> None:
    touch(tmp_path, "images/a b.jpg", "images/a%20b.jpg", "labels/a b.txt", "images/X.jpg", "images/x.jpg", "labels/x.txt")
    assert labels(tmp_path / "images") == {"a b.jpg": "a b.txt", "a%20b.jpg": None, "X.jpg": None, "x.jpg": "x.txt"}


def test_label_files_that_are_called_like_the_whole_image(tmp_path: Path) -> None:
    """ "a.jpg.txt" is the label of a.jpg, unless it is that of "a.jpg.png"; a label of the stem alone comes first."""
    touch(tmp_path, "images/a.jpg", "images/a.png", "images/b.jpg", "images/b.jpg.png", "images/my photo.JPG", "images/c.jpg")
    touch(tmp_path, "labels/a.jpg.txt", "labels/a.png.txt", "labels/b.jpg.txt", "labels/my%20photo.jpg.xml", "labels/c.jpg.txt")
    touch(tmp_path, "labels/c.txt")
    expected = {"a.jpg": "a.jpg.txt", "a.png": "a.png.txt", "b.jpg": None, "b.jpg.png": "b.jpg.txt", "my photo.JPG": "my%20photo.jpg.xml"}
    assert labels(tmp_path / "images") == expected | {"c.jpg": "c.txt"}
    listed = list(with_labels(entry_images(tmp_path / "images")[0]))
    assert stray_labels(listed) == {str(tmp_path / "labels/c.jpg.txt")}


def test_a_list_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that are not there are dropped; backslashes separate folders where no file has one in its name."""
    touch(tmp_path, "set/obj_train_data/a.jpg", "set/images/train/b c.jpg", "set/d.jpg")
    lines = ["data/obj_train_data/a.jpg", "/content/x/images/train/b%20c.jpg", r"C:\work\d.jpg", "elsewhere/e.jpg"]
    (tmp_path / "set/train.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    found = [str(path.relative_to(tmp_path / "set")) for path in entry_images(tmp_path / "set/train.txt")[0]]
    assert found == ["obj_train_data/a.jpg", "images/train/b c.jpg", "d.jpg", "elsewhere/e.jpg"]


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ("0001.png", "0001"),
        ("0001.JPG", "0001  1"),
        ("2021.03.0001.jpg", "2021.03.0001"),
        ("my photo 1.jpeg", "my photo 1"),
        ("my photo 1.tif", "my photo 1 -1"),
        ("0001.webp", "0001.webp 0"),
        ("sub/0001.bmp", "sub/0001"),
        ("photo 2.jfif", "photo%202"),
    ],
)
def test_voc_identifiers(tmp_path: Path, image: str, line: str) -> None:
    touch(tmp_path, f"JPEGImages/{image}", f"Annotations/{image.rpartition('.')[0]}.xml", "ImageSets/Main/train.txt")
    (tmp_path / "ImageSets/Main/train.txt").write_text(f"{line}\nmissing -1\n")
    first, missing = with_labels(entry_images(tmp_path / "ImageSets/Main/train.txt")[0])
    assert first.path == tmp_path / "JPEGImages" / image
    assert first.label == tmp_path / f"Annotations/{image.rpartition('.')[0]}.xml"
    assert (missing.path, missing.label) == (tmp_path / "JPEGImages/missing.jpg", None)


@pytest.mark.parametrize("image", ["a.1.png", "images/a.1.png", "JPEGImages/a.1.png"])
def test_a_list_of_names_without_suffix(tmp_path: Path, image: str) -> None:
    touch(tmp_path, image, "b.jpg")
    (tmp_path / "train.txt").write_text("a.1\nb\n")
    assert entry_images(tmp_path / "train.txt")[0] == [tmp_path / image, tmp_path / "b.jpg"]


def test_folders_that_are_not_there_cost_no_call_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "images/a.jpg")
    asked: list[str] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: (asked.append(str(folder)), listdir(folder))[1])
    monkeypatch.chdir(tmp_path)
    deep = "/".join("x" * 500) + "/images/a.jpg"
    (tmp_path / "list.txt").write_text(
        "".join(f"gone{number}/more/{number}.jpg\n" for number in range(500)) + f"{deep}\nimages/a.jpg\n" * 9
    )
    found, _ = entry_images(tmp_path / "list.txt")
    assert [path.name for path in found[-2:]] == ["a.jpg", "a.jpg"]
    assert len(found) == 502
    assert len(asked) < 20


def test_a_path_without_end_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a/" * 500_000 + "x.jpg\n")
    assert [path.name for path in entry_images(tmp_path / "list.txt")[0]] == ["x.jpg"]
