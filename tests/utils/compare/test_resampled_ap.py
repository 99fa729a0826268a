"""AP of stored matches against pycocotools, which is given the very copies of the images that the weights stand for."""

import contextlib
import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.utils.compare.synthetic import resampled
from utils.compare.match_store import StoredMatches, match_detections
from utils.compare.resampled_ap import RankedDetections, average_precision, mean_ignoring_nan, precision_recall_f1
from utils.data.index import GroundTruth
from utils.evaluation.metrics import Evaluator

NAMES = {0: "a", 1: "b", 2: "rare", 3: "absent"}
Image = tuple[NDArray[np.float32], GroundTruth]


def random_boxes(random: np.random.Generator, n: int) -> NDArray[np.float32]:
    low = random.uniform(0, 400, (n, 2))
    return np.concatenate((low, low + random.uniform(4, 240, (n, 2))), 1).astype(np.float32)


def random_images(seed: int, count: int, *, decimals: int = 2) -> list[Image]:
    """Crowds, empty images, ones without predictions, over 100 predictions of a class, areas of masks, confidences of few decimals."""
    random = np.random.default_rng(seed)
    out = []
    for i in range(count):
        n = int(random.integers(0, 9))
        boxes, labels = random_boxes(random, n), np.minimum(random.geometric(0.6, n) - 1, 2)
        near = np.repeat(boxes, 2, 0) + random.normal(0, 8, (2 * n, 4)).astype(np.float32)
        guess = np.concatenate((near, random_boxes(random, 140 if i == 0 else 5))) if i % 7 else random_boxes(random, 0)
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        classes = np.concatenate((np.repeat(labels, 2), random.integers(0, 4, len(guess))))[: len(guess)]
        rows = np.column_stack((guess, np.round(random.uniform(0, 1, len(guess)), decimals), classes)).astype(np.float32)
        area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * random.uniform(0.4, 1, n)).astype(np.float32)
        out.append((rows, GroundTruth(cls=labels, xyxy=boxes, area=area, crowd=random.uniform(size=n) < 0.15)))
    return out


def match(images: list[Image]) -> StoredMatches:
    evaluator = Evaluator(NAMES)
    for i, (rows, truth) in enumerate(images):
        evaluator.add(i, rows, truth)
    return match_detections(evaluator)


def oracle(images: list[Image]) -> tuple[list[float], NDArray[np.float64]]:
    """The six figures, and AP per class, of pycocotools; NaN for -1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def box(row: NDArray[np.float32]) -> list[float]:
        x, y, right, bottom = (float(v) for v in row[:4])
        return [x, y, right - x, bottom - y]

    objects: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for i, (rows, t) in enumerate(images):
        for k in range(len(t.cls)):
            row = {"image_id": i, "category_id": int(t.cls[k]), "bbox": box(t.xyxy[k]), "area": float(t.area[k])}
            objects.append({**row, "iscrowd": int(t.crowd[k]), "id": len(objects) + 1})
        results += [{"image_id": i, "category_id": int(r[5]), "bbox": box(r), "score": float(r[4])} for r in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        head = {"images": [{"id": i} for i in range(len(images))], "categories": [{"id": c, "name": n} for c, n in NAMES.items()]}
        coco.dataset = {"info": {}, **head, "annotations": objects}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    per_class = evaluation.eval["precision"][..., 0, -1].mean((0, 1))
    return np.where(evaluation.stats[:6] < 0, np.nan, evaluation.stats[:6]).tolist(), np.where(per_class < 0, np.nan, per_class)


def resample(seed: int, images: int) -> NDArray[np.int64]:
    return np.bincount(np.random.default_rng(seed).integers(0, images, images), minlength=images)


def overall(ranking: RankedDetections, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    return mean_ignoring_nan(ranking.average_precision(weights).reshape(len(weights), -1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighted", [False, True])
def test_all_figures_are_those_of_pycocotools(seed: int, weighted: bool) -> None:
    images = random_images(seed, 25)
    weights = resample(seed, 25) if weighted else None
    got = average_precision(match(images) if weights is None else resampled(match(images), weights))
    figures, per_class = oracle(images if weights is None else [image for image, n in zip(images, weights, strict=True) for _ in range(n)])
    np.testing.assert_allclose([got.ap, got.ap50, got.ap75, got.small, got.medium, got.large], figures, rtol=0, atol=1e-9)
    np.testing.assert_allclose(got.per_class, per_class, rtol=0, atol=1e-9)
    assert np.isnan(got.per_class[3])


def test_what_the_bootstrap_uses_is_exact_with_confidences_that_differ_within_an_image() -> None:
    images = random_images(5, 25, decimals=7)
    ranking = RankedDetections(match(images))
    weights = np.stack([resample(k, 25) for k in range(4)])
    want = [oracle([image for image, n in zip(images, row, strict=True) for _ in range(n)]) for row in weights]
    np.testing.assert_allclose(overall(ranking, weights), [figures[0] for figures, _ in want], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ranking.average_precision(weights).mean(2), [per_class for _, per_class in want], rtol=0, atol=1e-9)


@pytest.mark.parametrize("area", range(4))
def test_weights_count_as_copies_do_in_every_area(area: int) -> None:
    matches = match(random_images(6, 30, decimals=7))
    weights = np.stack([resample(k, 30) for k in range(5)])
    names = ("ap", "small", "medium", "large")
    want = [getattr(average_precision(resampled(matches, row)), names[area]) for row in weights]
    np.testing.assert_allclose(overall(RankedDetections(matches, area), weights), want, rtol=0, atol=1e-12)


def test_the_size_of_a_portion_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = RankedDetections(match(random_images(7, 20)))
    weights = np.stack([resample(k, 20) for k in range(9)])
    monkeypatch.setattr("utils.compare.resampled_ap._MAX_ELEMENTS", 1)
    single = ranking.average_precision(weights)
    monkeypatch.setattr("utils.compare.resampled_ap._MAX_ELEMENTS", 10**9)
    np.testing.assert_array_equal(ranking.average_precision(weights), single)


def test_a_curve_worked_out_by_hand() -> None:
    """Right, wrong, right of 2 objects: precision 1 up to recall 1/2 (51 of 101 points), then 2/3 (50 points)."""
    boxes = np.array([(0, 0, 100, 100), (200, 200, 300, 300)], np.float32)
    truth = GroundTruth(cls=np.zeros(2, np.int64), xyxy=boxes, area=np.full(2, 1e4, np.float32), crowd=np.zeros(2, bool))
    rows = np.array([(0, 0, 100, 100, 0.9, 0), (400, 0, 500, 99, 0.8, 0), (200, 200, 300, 300, 0.7, 0)], np.float32)
    got = average_precision(match([(rows, truth)]))
    assert got.ap == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)
    assert np.isnan(got.small)
    assert got.large == pytest.approx(got.ap)


def test_without_objects_or_detections() -> None:
    some = random_images(1, 10)
    none = GroundTruth(cls=np.zeros(0, np.int64), xyxy=np.zeros((0, 4), np.float32), area=np.zeros(0, np.float32), crowd=np.zeros(0, bool))
    blind = average_precision(match([(rows[:0], truth) for rows, truth in some]))
    assert (blind.ap, blind.ap50) == (0, 0)
    empty = average_precision(match([(rows, none) for rows, _ in some]))
    assert np.isnan([empty.ap, empty.small, *empty.per_class]).all()
    nothing = average_precision(resampled(match(some), np.zeros(10, int)))
    assert np.isnan(dataclasses.astuple(nothing)[0])
    assert np.isnan(average_precision(match([])).ap)


def test_a_resample_without_a_class_leaves_it_out() -> None:
    images = random_images(2, 20)
    without = np.array([int(not (truth.cls == 2).any()) for _, truth in images])
    assert 0 < without.sum() < 20
    table = RankedDetections(match(images)).average_precision(without[None])[0]
    assert np.isnan(table[2]).all()
    assert not np.isnan(table[0]).any()


def test_precision_recall_and_f1_are_means_over_the_classes_with_objects():
    """Class 0: both objects found, and one more detection in a crowd, which does not count. Class 1: one detection beside its object."""
    boxes = np.array([[0, 0, 50, 50], [100, 0, 150, 50], [200, 200, 400, 400], [0, 300, 50, 350]], np.float32)
    area = np.array([2500, 2500, 40000, 2500], np.float32)
    truth = GroundTruth(cls=np.array([0, 0, 0, 1]), xyxy=boxes, area=area, crowd=np.array([False, False, True, False]))
    rows = np.array([[*boxes[0], 0.9, 0], [*boxes[1], 0.3, 0], [210, 210, 390, 390, 0.95, 0], [500, 300, 550, 350, 0.8, 1]], np.float32)
    assert precision_recall_f1(match([(rows, truth)])) == pytest.approx((0.5, 0.5, 0.5))
    nothing = GroundTruth(cls=truth.cls[:0], xyxy=boxes[:0], area=area[:0], crowd=truth.crowd[:0])
    assert np.isnan(precision_recall_f1(match([(rows, nothing)]))).all()
