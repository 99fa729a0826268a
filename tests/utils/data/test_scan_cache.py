"""The cache of scanned labels: whatever lies where a cache file belongs, it is taken whole or not at all, and never run."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.data.config import load_data
from utils.data.index import Index
from utils.data.scan import scan
from utils.data.scan_cache import ScanResult, load_scan, save_scan


@pytest.fixture
def result(tiny_dataset: Path, tmp_path: Path) -> ScanResult:
    return scan(load_data(tiny_dataset), "val", tmp_path / "unused")


def rewritten(source: Path, target: Path, method: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    """A copy of a cache file with other bytes for some of its members."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, members.get(entry.filename.removesuffix(".npy"), old.read(entry)))
    return target


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(text: str) -> bytes:
    """An .npy whose header is `text`."""
    padded = text.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def test_it_comes_back_as_it_was(result: ScanResult, tmp_path: Path) -> None:
    save_scan(tmp_path / "a.npz", result)
    back = load_scan(tmp_path / "a.npz")
    assert back is not None
    assert (back.digest, back.files, back.faults) == (result.digest, result.files, result.faults)
    assert np.array_equal(back.stamps, result.stamps)
    assert np.array_equal(back.frames, result.frames)
    assert back.index.names == {}
    for field in dataclasses.fields(Index):
        if field.name != "names":
            assert np.array_equal(getattr(back.index, field.name), getattr(result.index, field.name)), field.name
    assert load_scan(rewritten(tmp_path / "a.npz", tmp_path / "b.npz")) is not None


class Payload:
    def __reduce__(self) -> Any:
        return pytest.fail, ("ran",)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", pickle.dumps(Payload), b"\x93NUMPY\x01\x00", npy(np.zeros(3))],
    ids=["empty", "zip", "pickle", "npy", "array"],
)
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    assert load_scan(tmp_path / "a.npz") is None


@pytest.mark.parametrize(
    "annotations",
    [
        npy(np.array([Payload()], object)),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 5), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 5), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (((("),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 60),
        header("{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (1,), }"),
        header("__import__('os').abort()"),
        npy(np.zeros((4, 5), np.float64)),
        npy(np.zeros((4, 4), np.float32)),
        npy(np.full((100, 5), np.nan, np.float32)),
        npy(np.full((100, 5), 2, np.float32)),
        npy(np.full((100, 5), -1, np.float32)),
        b"",
    ],
    ids=range(13),
)
def test_poisoned_arrays(result: ScanResult, tmp_path: Path, annotations: bytes) -> None:
    index = dataclasses.replace(
        result.index,
        annotations=np.zeros((100, 5), np.float32),
        starts=np.linspace(0, 100, len(result.index) + 1).astype(np.int64),
        areas=np.zeros(100, np.float32),
        crowds=np.zeros(100, bool),
        points=result.index.points[:0],
        point_starts=np.zeros(101, np.int64),
    )
    result = dataclasses.replace(result, index=index)
    save_scan(tmp_path / "a.npz", result)
    assert load_scan(tmp_path / "a.npz") is not None
    assert load_scan(rewritten(tmp_path / "a.npz", tmp_path / "b.npz", annotations=annotations)) is None


def test_a_compressed_one_is_not_unpacked(result: ScanResult, tmp_path: Path) -> None:
    save_scan(tmp_path / "a.npz", result)
    assert load_scan(rewritten(tmp_path / "a.npz", tmp_path / "b.npz", zipfile.ZIP_DEFLATED)) is None


@pytest.mark.parametrize(
    "changes",
    [{"files": 7}, {"paths": [3, 4, 5, 6]}, {"image_ids": [None] * 4}, {"faults": {"a": 1}}, {"report": {}}, {"more": 1}, {"version": 0}],
    ids=lambda c: next(iter(c)),
)
def test_poisoned_texts(result: ScanResult, tmp_path: Path, changes: dict[str, Any]) -> None:
    save_scan(tmp_path / "a.npz", result)
    with np.load(tmp_path / "a.npz") as stored:
        text = json.loads(stored["text"].tobytes())
    poisoned = npy(np.frombuffer(json.dumps(text | changes).encode(), np.uint8))
    assert load_scan(rewritten(tmp_path / "a.npz", tmp_path / "b.npz", text=poisoned)) is None
    deep = npy(np.frombuffer(b"[" * 100_000, np.uint8))
    assert load_scan(rewritten(tmp_path / "a.npz", tmp_path / "c.npz", text=deep)) is None
