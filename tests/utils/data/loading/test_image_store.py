"""Kept images are the same as those read anew, and what cannot be kept is not."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.data.loading import image_store as module
from utils.data.loading.image_store import ImageStore, kept_size, load
from utils.images.reading import ImageError

SIZES = np.array([[60, 90], [200, 100], [40, 40]], np.int32)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    out = []
    for i, size in enumerate(SIZES.tolist()):
        out.append(tmp_path / f"{i}.jpg")
        cv2.imwrite(str(out[-1]), cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), size[::-1]))
    return out


def test_sizes_that_are_kept() -> None:
    assert kept_size((480, 640), 320, enlarge=False) == (240, 320)
    assert kept_size((427, 640), 320, enlarge=False) == (214, 320)  # 213.5, rounded up
    assert kept_size((100, 50), 320, enlarge=False) == (100, 50)
    assert kept_size((100, 50), 320, enlarge=True) == (320, 160)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("cache", ["", "auto", "ram", "disk"])
def test_same_bytes_whatever_is_kept(paths: list[Path], cache: str, exact: bool) -> None:
    store = ImageStore(paths, SIZES, 64, exact=exact, cache=cache, recent=2)
    again = ImageStore(paths, SIZES, 64, exact=exact, cache=cache, recent=2)
    for i in (0, 1, 0, 2, 1, 0, 2):
        plain = load(paths[i], kept_size(tuple(SIZES[i].tolist()), 64, enlarge=exact), exact=exact)
        assert np.array_equal(store(i), plain)
        assert np.array_equal(again(i), plain)
    assert sorted(p.name for p in paths[0].parent.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]


def test_memory_spares_the_second_reading(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(module, "load", lambda path, size, *, exact: read.append(path) or load(path, size, exact=exact))
    for cache, times in (("ram", 1), ("auto", 1), ("disk", 1), ("", 2)):
        read.clear()
        store = ImageStore(paths, SIZES, 48, exact=False, cache=cache, recent=1)
        for i in (0, 1, 2, 0, 1, 2):
            store(i)
        assert len(read) == 3 * times


def test_disk_cache_notices_a_changed_image_and_a_damaged_file(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path / "cache"))
    store = ImageStore(paths, SIZES, 64, exact=False, cache="disk", recent=0)
    before = store(0)
    cv2.imwrite(str(paths[0]), np.full((60, 90, 3), 7, np.uint8))
    assert abs(int(store(0).mean()) - 7) <= 1
    for file in (tmp_path / "cache" / "images").iterdir():
        file.write_bytes(b"not numpy")
    assert abs(int(store(0).mean()) - 7) <= 1
    assert before.shape == (43, 64, 3)


def test_what_does_not_fit_is_not_kept_and_said(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: 1000)
    monkeypatch.setattr(module.LOG, "propagate", True)
    with caplog.at_level(logging.WARNING):
        store = ImageStore(paths, SIZES, 64, exact=False, cache="ram")
    assert "not cached" in caplog.text
    assert store(0).shape == (43, 64, 3)


def test_large_jpegs_are_decoded_small_and_look_the_same(tmp_path: Path) -> None:
    picture = cv2.resize(np.random.default_rng(1).integers(0, 256, (9, 9, 3), np.uint8), (800, 600), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "a.jpg"), picture)
    quick, thorough = (load(tmp_path / "a.jpg", (150, 200), exact=e).astype(int) for e in (False, True))
    assert np.abs(quick - thorough).mean() < 1.5


def test_a_vanished_image_is_an_image_error(paths: list[Path]) -> None:
    for cache in ("", "ram", "disk"):
        store = ImageStore([*paths[:2], paths[0].parent / "gone.jpg"], SIZES, 64, exact=False, cache=cache)
        with pytest.raises(ImageError, match=r"gone\.jpg"):
            store(2)
