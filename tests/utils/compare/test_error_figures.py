"""What errors cost, against figures of tidecv 1.0.1 and by hand; calibration by hand."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.utils.compare.synthetic import resampled
from tests.utils.compare.test_match_store import random_boxes
from utils.compare.error_figures import calibration_error, error_costs
from utils.compare.match_store import StoredMatches, match_detections
from utils.data.index import GroundTruth
from utils.evaluation.error_types import ERROR_TYPES
from utils.evaluation.metrics import Evaluator


def draw(seed: int, images: int = 15) -> StoredMatches:
    """Near and far boxes of right and wrong classes, several for each object; no crowds."""
    random, evaluator = np.random.default_rng(seed), Evaluator({0: "a", 1: "b", 2: "c"})
    for i in range(images):
        n = int(random.integers(0, 8)) if i % 6 else 0
        boxes, labels = random_boxes(random, n), random.integers(0, 3, n)
        near = np.repeat(boxes, 3, 0) + random.choice([0, 5, 20, 60], (3 * n, 1)) * random.normal(0, 1, (3 * n, 4)).astype(np.float32)
        guess = np.concatenate((near, random_boxes(random, 6))).astype(np.float32)
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        classes = np.concatenate((np.repeat(labels, 3), random.integers(0, 3, 6)))
        classes = np.where(random.uniform(size=len(classes)) < 0.25, random.integers(0, 3, len(classes)), classes)
        rows = np.column_stack((guess, random.uniform(0, 1, len(guess)).astype(np.float32), classes)).astype(np.float32)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        evaluator.add(i, rows, GroundTruth(cls=labels, xyxy=boxes, area=area, crowd=np.zeros(n, bool)))
    return match_detections(evaluator)


def once(matches: StoredMatches) -> NDArray[np.int64]:
    return np.ones((1, len(matches.images)), np.int64)


@pytest.mark.parametrize(
    ("seed", "counts", "costs"),
    [
        (0, [16, 30, 12, 23, 107], [0.031353551, 0.086267353, 0.010647889, 0.010253637, 0.175848078, 0.016032326]),
        (5, [15, 21, 20, 28, 90], [0.048734115, 0.044207896, 0.01694314, 0.014970935, 0.132137004, 0.014851603]),
    ],
)
def test_costs_are_those_of_tidecv(seed: int, counts: list[int], costs: list[float]) -> None:
    """``TIDE().evaluate(...).fix_main_errors()`` of tidecv 1.0.1 on the same boxes."""
    matches = draw(seed)
    assert np.bincount(matches.error)[:5].tolist() == counts
    assert error_costs(matches, once(matches))[0] == pytest.approx(costs, abs=1e-9)


def one_class(hits: list[bool], scores: list[float], objects: int) -> StoredMatches:
    """Detections of a class, the most confident first, each in an image of its own; those that are wrong are background."""
    n = len(hits)
    matched, number = np.zeros((n, 10, 4), bool), np.arange(n, dtype=np.int32)
    matched[:, 0, 0] = hits
    target = np.where(hits, np.cumsum(hits) - 1, -1).astype(np.int32)
    area = np.zeros((objects, 4), bool)
    area[:, 0] = True
    error = np.where(hits, len(ERROR_TYPES), ERROR_TYPES.index("background")).astype(np.uint8)
    where = np.concatenate((number[np.array(hits)], np.zeros(objects, np.int32)))[:objects]
    return StoredMatches(
        ("a",),
        np.arange(n),
        number,
        0 * number,
        np.array(scores, np.float32),
        matched,
        np.zeros_like(matched),
        where,
        np.zeros(objects, np.int32),
        area,
        error,
        target,
    )


def test_what_background_and_missed_objects_cost() -> None:
    """A false positive before a true one, one of two objects missed: AP50 is 51 / 101 * 1 / 2; without the first 51 / 101; without the
    missed object 1 / 2."""
    matches = one_class([False, True], [0.9, 0.8], 2)
    costs = dict(zip(ERROR_TYPES, error_costs(matches, once(matches))[0].tolist(), strict=True))
    assert costs.pop("background") == pytest.approx(51 / 101 / 2)
    assert costs.pop("missed") == pytest.approx(1 / 2 - 51 / 101 / 2)
    assert set(costs.values()) == {0}


def test_a_resample_has_the_costs_of_the_copied_images() -> None:
    matches = draw(1)
    times = np.random.default_rng(0).multinomial(15, [1 / 15] * 15)
    copied = resampled(matches, times)
    kept = np.repeat(np.arange(len(matches.object_cls)), times[matches.object_image])
    assert len(kept) == len(copied.object_cls)
    assert error_costs(copied, once(copied))[0] == pytest.approx(error_costs(matches, times[None])[0], abs=1e-9)


def test_matches_without_types_have_no_costs() -> None:
    old = dataclasses.replace(draw(0), error=np.zeros(0, np.uint8), target=np.zeros(0, np.int32))
    assert np.isnan(error_costs(old, once(old))).all()


def test_calibration_is_the_distance_of_confidence_from_precision() -> None:
    """|0.95 - 1| + |0.85 - 0| + |0.35 - 1| over three detections; 0.1 is below the confidence at which a user sees one."""
    matches = one_class([True, False, True, True], [0.95, 0.85, 0.35, 0.1], 3)
    assert calibration_error(matches, once(matches)) == pytest.approx([(0.05 + 0.85 + 0.65) / 3])
    assert calibration_error(matches, np.array([[2, 1, 0, 5]])) == pytest.approx([(2 * 0.05 + 0.85) / 3])
    same = one_class([True, False], [0.55, 0.52], 1)  # one bin: precision 1 / 2, confidence 0.535
    assert calibration_error(same, once(same)) == pytest.approx([0.035])
    assert np.isnan(calibration_error(same, np.array([[0, 0]])))[0]
