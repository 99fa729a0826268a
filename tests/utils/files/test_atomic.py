"""Files replaced in one step."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from utils.files.atomic import atomic_write, open_append, open_new, remove_leftovers, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    path.chmod(0o640)
    write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert path.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["a.txt"]


def test_an_error_in_the_block_changes_nothing(tmp_path):
    path, previous = tmp_path / "a", tmp_path / "b"
    write_text(path, "one")
    with pytest.raises(TypeError), atomic_write(path, previous=previous) as file:
        file.write("two")
    assert path.read_text() == "one"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("links", [True, False])
def test_the_previous_one_is_kept(tmp_path, monkeypatch, links):
    def refuse(*_: object) -> None:
        raise OSError("no links on this file system")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path, previous = tmp_path / "a", tmp_path / "b"
    for content in ("one", "two", "three"):
        with atomic_write(path, previous=previous) as file:
            file.write(content.encode())
    assert (path.read_text(), previous.read_text()) == ("three", "two")
    assert names(tmp_path) == ["a", "b"]


def test_two_names_of_one_file(tmp_path):
    """As a kill between the two renames leaves them."""
    path, previous = tmp_path / "a", tmp_path / "b"
    write_text(path, "one")
    os.link(path, previous)
    with atomic_write(path, previous=previous) as file:
        file.write(b"two")
    assert (path.read_text(), previous.read_text()) == ("two", "one")
    assert names(tmp_path) == ["a", "b"]


def test_leftovers(tmp_path):
    for name in (".a.tmp", "a.tmp", ".a"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.tmp").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".a", ".folder.tmp", "a.tmp"]
    remove_leftovers(tmp_path / "nowhere")


def test_no_other_name_of_a_file_is_written_to(tmp_path):
    victim = tmp_path / "victim"

    def new(path: Path) -> None:
        with open_new(path) as file:
            file.write("new")

    def append(path: Path) -> None:
        with open_append(path) as file:
            file.write(b"new")

    for write in (write_text, partial(write_text, durable=False), new, append):
        for link in (Path.hardlink_to, Path.symlink_to):
            for name in ("a", ".a.tmp"):
                victim.write_text("old")
                link(tmp_path / name, victim)
                write(tmp_path / "a", *(["new"] if write not in (new, append) else []))
                assert victim.read_text() == "old"
                for path in (tmp_path / "a", tmp_path / ".a.tmp"):
                    path.unlink(missing_ok=True)


def test_appending_keeps_what_is_there(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    for text in (b"2", b"3"):
        with open_append(tmp_path / "b") as file:
            file.write(text)
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("1", "123")


def test_text_that_is_no_utf8_is_written(tmp_path):
    write_text(tmp_path / "a", "b\udcff")
    assert (tmp_path / "a").read_bytes() == b"b\xff"
    write_text(tmp_path / "a", "b\ud800")
    assert (tmp_path / "a").read_text() == "b\\ud800"
