"""Files are read; what only looks like one is an error at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from utils.files.safe_open import open_regular, read_regular


def test_files_and_links_to_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for name in ("a", "b"):
        assert read_regular(tmp_path / name, 5) == b"12345"
        with open_regular(tmp_path / name) as file:
            assert file.read(2) == b"12"
            assert file.seek(-1, os.SEEK_END) == 4


def test_what_is_larger_than_allowed_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 2 MiB"):
        read_regular(tmp_path / "sparse", 2 << 20)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("gone")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("pipe", "folder", "loop", "dangling", "socket", "a\0b", "x" * 300):
            with pytest.raises(OSError):  # noqa: PT011 - one of many
                open_regular(tmp_path / name)
    with pytest.raises(OSError, match="not a file"):
        open_regular("/dev/null")


def handles() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_no_handle_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = handles()
    for _ in range(20):
        with pytest.raises(OSError):  # noqa: PT011 - one of many
            open_regular(tmp_path / "folder")
    assert handles() == before
