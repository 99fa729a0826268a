"""The confusion matrix counts every object and every prediction once."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.confusion import confusion_matrix, write_confusion
from utils.evaluation.image_result import ImageResult


def record(objects: list[tuple[float, ...]], found: list[tuple[float, ...]]) -> ImageResult:
    """Objects as class, xyxy; predictions as xyxy, confidence, class."""
    table = np.array(objects, np.float32).reshape(-1, 5)
    n = len(table)
    rows = np.array(found, np.float32).reshape(-1, 6)
    return ImageResult(rows, table[:, 0].astype(np.int64), table[:, 1:], np.ones(n), np.zeros(n, bool))


def cells(matrix: NDArray[np.int64]) -> dict[tuple[int, int], int]:
    return {(int(r), int(c)): int(matrix[r, c]) for r, c in zip(*matrix.nonzero(), strict=True)}


def test_hit_confusion_miss_and_background() -> None:
    objects = [(0, 0, 0, 10, 10), (1, 50, 50, 60, 60), (1, 90, 90, 99, 99)]
    found = [(0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 2), (200, 200, 210, 210, 0.7, 1), (90, 90, 99, 99, 0.25, 1)]
    # The last prediction is not above 0.25, so its object is missed.
    assert cells(confusion_matrix([record(objects, found)], 3)) == {(0, 0): 1, (2, 1): 1, (3, 1): 1, (1, 3): 1}


def test_predictions_count_where_nothing_matches() -> None:
    """YOLOv5 drops false positives of images without objects, and of images in which nothing matched."""
    stray = (200.0, 200, 210, 210, 0.7, 1)
    assert cells(confusion_matrix([record([], [stray])], 2)) == {(1, 2): 1}
    assert cells(confusion_matrix([record([(0, 0, 0, 10, 10)], [stray])], 2)) == {(1, 2): 1, (2, 0): 1}


def test_one_to_one_by_overlap() -> None:
    found = [(0, 0, 10, 6, 0.9, 0), (0, 0, 10, 9, 0.5, 1)]
    assert cells(confusion_matrix([record([(0, 0, 0, 10, 10)], found)], 2)) == {(1, 0): 1, (0, 2): 1}


def test_totals_are_kept() -> None:
    random = np.random.default_rng(0)
    records = []
    for n, k in ((0, 5), (7, 0), (12, 30), (3, 50)):
        low, guess = random.uniform(0, 80, (n, 2)), random.uniform(0, 80, (k, 2))
        objects = np.column_stack((random.integers(0, 3, n), low, low + 20))
        rows = np.column_stack((guess, guess + 20, random.uniform(0, 1, k), random.integers(0, 3, k)))
        records.append(record([tuple(o) for o in objects], [tuple(r) for r in rows]))
    matrix = confusion_matrix(records, 3)
    for c in range(3):
        assert matrix[:, c].sum() == sum(int((r.cls == c).sum()) for r in records)
        assert matrix[c].sum() == sum(int(((r.detections[:, 5] == c) & (r.detections[:, 4] > 0.25)).sum()) for r in records)
    assert matrix[3, 3] == 0


def test_csv_holds_the_raw_counts(tmp_path: Path) -> None:
    write_confusion(tmp_path / "m.csv", np.array([[3, 1], [2, 0]]), ["ship"])
    assert (tmp_path / "m.csv").read_text().splitlines() == ["predicted \\ true,ship,background", "ship,3,1", "background,2,0"]


def test_more_classes_than_the_counts_have_room_for(tmp_path):
    matrix = confusion_matrix([], 60_000)
    assert matrix.shape == (0, 0)
    write_confusion(tmp_path / "confusion_matrix.csv", matrix, ["x"] * 60_000)
    assert list(tmp_path.iterdir()) == []
