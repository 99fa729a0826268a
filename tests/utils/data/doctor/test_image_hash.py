"""One picture in two files is recognised; two pictures are not taken for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from utils.data.doctor import image_hash as fingerprints
from utils.data.doctor.image_hash import DISTANCE, SIDE, find_similar, image_hash
from utils.data.shapes import draw


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [draw(0, "train", number, 256)[0] for number in range(20)]


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def alike(images: list[np.ndarray], members: list[int], **options: int) -> fingerprints.NearestMatches:
    prints = [image_hash(image) for image in images]
    bits, thumbs = np.array([b for b, _ in prints], np.uint64), np.stack([t for _, t in prints])
    return find_similar(bits, thumbs, np.array(members), max(members) + 1, **options)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: compressed(image, 20),
        lambda image: cv2.resize(image, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA),
        lambda image: cv2.resize(image, (640, 480)),
        lambda image: compressed(cv2.resize(image, None, fx=0.5, fy=0.5), 50),
        lambda image: cv2.convertScaleAbs(image, alpha=0.9, beta=10),
        lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    ],
    ids=["quality 20", "a third", "other shape", "half, quality 50", "brightness and contrast", "grey"],
)
def test_changed_files_of_one_picture(pictures: list[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> None:
    count = len(pictures)
    found = alike([*pictures, *map(change, pictures)], [0] * count + [1] * count)
    assert found.partner[count:, 0].tolist() == list(range(count))
    assert found.partner[:count, 1].tolist() == list(range(count, 2 * count))
    assert (found.distance[:count, 1] <= DISTANCE).all()
    assert (found.partner[:count, 0] == -1).all(), "the pictures themselves are not alike"
    assert (found.distance[:count, 0] == 255).all()


def test_photos_are_told_apart(shared) -> None:
    from utils.images.reading import read_image

    photos = [read_image(path, min_size=(96, 96)) for path in sorted((shared / "fruits" / "test").glob("*.jpg"))[:30]]
    found = alike([*photos, *(compressed(photo, 40) for photo in photos)], [0] * 30 + [1] * 30)
    assert found.partner[:30, 1].tolist() == list(range(30, 60))
    assert (found.partner[:30, 0] == -1).all()


def test_flat_pictures() -> None:
    greys = [np.full((40, 50, 3), value, np.uint8) for value in (0, 2, 128, 255)]
    assert alike(greys, [0] * 4).partner[:, 0].tolist() == [1, 0, -1, -1]


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9000, 3), (70000, 3, 3)])
def test_odd_shapes(shape: tuple[int, int, int]) -> None:
    bits, thumb = image_hash(np.random.default_rng(0).integers(0, 255, shape, np.uint8))
    assert 0 <= bits < 2**64
    assert thumb.shape == (SIDE, SIDE)
    assert thumb.dtype == np.uint8


@pytest.mark.parametrize("block", [4, 7, 512])
def test_every_pair_is_compared(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_BLOCK", block)
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**64, 30, np.uint64)
    bits[20:] = bits[:10] ^ np.uint64(0b1011)
    thumbs = np.zeros((30, SIDE, SIDE), np.uint8)
    members = rng.integers(0, 3, 30)
    found = find_similar(bits, thumbs, members, 3, distance=3)
    for i in range(30):
        for member in range(3):
            apart = {j: (int(bits[i]) ^ int(bits[j])).bit_count() for j in range(30) if j != i and members[j] == member}
            nearest = [j for j in sorted(apart) if apart[j] == min(apart.values(), default=0) <= 3]
            assert found.partner[i, member] == (nearest[0] if nearest else -1)
            assert found.distance[i, member] == (apart[nearest[0]] if nearest else 255)
    assert (find_similar(bits, thumbs, members, 3, distance=2).partner == -1).all()


def test_thumbnails_have_the_last_word() -> None:
    thumbs = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), np.uint8)
    thumbs[2] = thumbs[0]
    found = find_similar(np.zeros(3, np.uint64), thumbs, np.zeros(3, np.int64), 1)
    assert found.partner[:, 0].tolist() == [2, -1, 0]


def test_thousands_of_the_same_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the four and a half million pairs, the thumbnails of a few are compared."""
    count, pairs, same_picture = 3000, 0, fingerprints._same_image

    def counted(thumbs: Any, rows: Any, columns: Any) -> Any:
        nonlocal pairs
        pairs += len(rows)
        return same_picture(thumbs, rows, columns)

    monkeypatch.setattr(fingerprints, "_same_image", counted)
    found = find_similar(np.zeros(count, np.uint64), np.zeros((count, SIDE, SIDE), np.uint8), np.arange(count) % 2, 2)
    assert (found.distance == 0).all()
    assert pairs < 150_000


def test_nothing() -> None:
    assert find_similar(np.zeros(0, np.uint64), np.zeros((0, SIDE, SIDE), np.uint8), np.zeros(0, np.int64), 2).partner.shape == (0, 2)
