"""The lock of a folder: one holder at a time, none once it is dead."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.files.lock import NAME, folder_lock


def try_to_hold(folder: Path) -> str:
    try:
        with folder_lock(folder):
            return ""
    except UserError as error:
        return str(error)


def wait_holding(folder, pipe) -> None:
    with folder_lock(folder):
        pipe.send("held")
        signal.pause()


def test_a_second_holder_is_told_who_has_it(tmp_path):
    with folder_lock(tmp_path):
        assert try_to_hold(tmp_path).startswith(f"{tmp_path} is in use by process {os.getpid()} on {os.uname().nodename} since 2")
        assert try_to_hold(tmp_path).endswith("; wait, stop it, or give another --name")
        other = tmp_path / "other"
        other.mkdir()
        assert try_to_hold(other) == ""
    assert (tmp_path / NAME).read_text() == ""
    assert try_to_hold(tmp_path) == ""


def test_the_lock_ends_with_an_error(tmp_path):
    with pytest.raises(KeyError), folder_lock(tmp_path):
        raise KeyError
    assert try_to_hold(tmp_path) == ""


def test_another_process_holds_it_until_it_is_killed(tmp_path):
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe()
    child = context.Process(target=wait_holding, args=(tmp_path, its))
    child.start()
    assert mine.poll(20)
    assert mine.recv() == "held"
    assert f"process {child.pid} on" in try_to_hold(tmp_path)
    child.kill()
    child.join()
    assert f"process {child.pid} on" in (tmp_path / NAME).read_text()
    assert try_to_hold(tmp_path) == ""


def test_a_forked_child_holds_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    with folder_lock(tmp_path):
        child = context.Process(target=signal.pause)
        child.start()
        assert "in use" in try_to_hold(tmp_path)
    try:
        assert try_to_hold(tmp_path) == ""
    finally:
        child.kill()
        child.join()


def test_a_child_that_leaves_the_block_leaves_the_lock_to_its_parent(tmp_path):
    pid = -1
    with folder_lock(tmp_path):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            assert f"process {os.getpid()} on" in try_to_hold(tmp_path)
    if not pid:
        os._exit(0)
    assert try_to_hold(tmp_path) == ""


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be locked"), folder_lock(tmp_path / "nowhere"):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert try_to_hold(tmp_path) == ""
    assert "has no locks (No locks available)" in caplog.text
