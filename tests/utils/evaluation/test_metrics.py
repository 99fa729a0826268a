"""AP against pycocotools; precision, recall, F1 and YOLOv5's AP against values worked out by hand."""

import contextlib
import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from utils.data.index import GroundTruth
from utils.evaluation.metrics import Evaluator, Metrics, write_per_class

NAMES = {0: "a", 1: "b", 2: "c", 3: "d"}


def truth(*rows: tuple[float, ...], crowd: bool = False) -> GroundTruth:
    """Rows of class, xyxy."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    boxes = table[:, 1:]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return GroundTruth(cls=table[:, 0].astype(np.int64), xyxy=boxes, area=area, crowd=np.full(len(table), crowd))


def found(*rows: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 6)


def random_boxes(random: np.random.Generator, n: int) -> NDArray[np.float32]:
    low = random.uniform(0, 400, (n, 2))
    return np.concatenate((low, low + random.uniform(4, 240, (n, 2))), 1).astype(np.float32)


def random_data(seed: int, images: int, per_image: int) -> list[tuple[NDArray[np.float32], GroundTruth]]:
    """Images of all kinds: crowds, empty ones, ones without predictions, more than 100 predictions of a class, equal confidences."""
    random = np.random.default_rng(seed)
    out = []
    for i in range(images):
        n = int(random.integers(0, per_image))
        boxes, labels = random_boxes(random, n), random.integers(0, 3, n)
        near = np.repeat(boxes, 2, 0) + random.normal(0, 8, (2 * n, 4)).astype(np.float32)
        stray = random_boxes(random, 140 if i == 0 else 5)
        guess = np.concatenate((near, stray)) if i % 5 else stray[:0]
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        classes = np.concatenate((np.repeat(labels, 2), np.zeros(len(stray), int)))[: len(guess)]
        conf = np.round(random.uniform(0, 1, len(guess)), 2)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * random.uniform(0.4, 1, n)
        rows = np.column_stack((guess, conf, classes)).astype(np.float32)
        out.append((rows, GroundTruth(cls=labels, xyxy=boxes, area=area.astype(np.float32), crowd=random.uniform(size=n) < 0.15)))
    return out


def oracle(data: list[tuple[NDArray[np.float32], GroundTruth]]) -> Any:
    """The same through pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def box(row: NDArray[np.float32]) -> list[float]:
        x, y, right, bottom = (float(v) for v in row[:4])
        return [x, y, right - x, bottom - y]

    objects: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for i, (rows, t) in enumerate(data):
        for k in range(len(t.cls)):
            row = {"image_id": i, "category_id": int(t.cls[k]), "bbox": box(t.xyxy[k]), "area": float(t.area[k])}
            objects.append({**row, "iscrowd": int(t.crowd[k]), "id": len(objects) + 1})
        results += [{"image_id": i, "category_id": int(r[5]), "bbox": box(r), "score": float(r[4])} for r in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images, categories = [{"id": i} for i in range(len(data))], [{"id": c, "name": n} for c, n in NAMES.items()]
        coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": objects}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def measure(data: list[tuple[NDArray[np.float32], GroundTruth]]) -> Metrics:
    evaluator = Evaluator(NAMES)
    for i, (rows, t) in enumerate(data):
        evaluator.add(i, rows, t)
    return evaluator.compute()


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    data = random_data(seed, images=20, per_image=8)
    got, want = measure(data), oracle(data)
    figures = [got.ap, got.ap50, got.ap75, got.ap_small, got.ap_medium, got.ap_large]
    np.testing.assert_allclose(figures, want.stats[:6], rtol=0, atol=1e-9)
    table = want.eval["precision"][..., 0, -1]
    np.testing.assert_allclose(got.ap_per_class[:3], table.mean((0, 1))[:3], rtol=0, atol=1e-9)
    assert got.ap_per_class[3] == got.ap  # no object of it
    np.testing.assert_allclose([c.ap50 for c in got.per_class], table[0].mean(0)[:3], rtol=0, atol=1e-9)


def test_classes_in_groups_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data(0, images=20, per_image=8)
    whole = measure(data)
    monkeypatch.setattr("utils.evaluation.coco_ap._PAIRS_AT_ONCE", 20)
    np.testing.assert_array_equal(measure(data).ap_per_class, whole.ap_per_class)


def test_perfect_predictions_measure_one() -> None:
    t = truth((0, 0, 0, 20, 20), (1, 50, 50, 100, 100), (1, 200, 200, 400, 400))
    rows = found((0, 0, 20, 20, 0.9, 0), (50, 50, 100, 100, 0.8, 1), (200, 200, 400, 400, 0.7, 1))
    m = measure([(rows, t)])
    assert (m.ap, m.ap50, m.ap75, m.ap_small, m.ap_medium, m.ap_large) == pytest.approx([1] * 6)
    assert (m.precision, m.recall, m.f1) == pytest.approx([1, 1, 1])
    assert m.confidence < 0.7
    assert (m.images, m.instances) == (1, 3)
    assert [(c.name, c.images, c.instances) for c in m.per_class] == [("a", 1, 1), ("b", 1, 2)]
    # The well-known 0.995: its last sentinel, precision 0 at recall 1, costs half of the last of 100 steps.
    assert (m.yolov5.map50, m.yolov5.map) == pytest.approx([0.995, 0.995])


def test_yolov5_figures_by_hand() -> None:
    """Two objects, three predictions: hit, miss, hit. Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    t = truth((0, 0, 0, 20, 20), (0, 100, 100, 120, 120))
    rows = found((0, 0, 20, 20, 0.9, 0), (300, 300, 320, 320, 0.8, 0), (100, 100, 120, 120, 0.7, 0))
    m = measure([(rows, t)])
    # Envelope: 1 below recall 1/2, then 2/3, and 0 at recall 1 itself; two of the 100 trapezoids are slanted.
    assert m.yolov5.map50 == pytest.approx(0.49 * 1 + 0.01 * (1 + 2 / 3) / 2 + 0.49 * 2 / 3 + 0.01 * (2 / 3) / 2)
    assert m.ap50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    # F1 is 2/3, 1/2 and 4/5 after each prediction; 4/5 holds for every confidence up to 0.7.
    assert (m.precision, m.recall, m.f1) == pytest.approx([2 / 3, 1, 4 / 5], abs=1e-6)
    assert m.confidence < 0.7


def test_of_two_predictions_the_more_confident_finds_the_object() -> None:
    """YOLOv5's rule: the better overlap of the less confident prediction does not count."""
    t = truth((0, 0, 0, 100, 100))
    rows = found((0, 0, 100, 80, 0.9, 0), (0, 0, 100, 100, 0.5, 0))
    m = measure([(rows, t)])
    assert m.yolov5.map50 == pytest.approx(1, abs=0.006)
    # At IoU .85 to .95 only the second prediction finds it, at precision 1/2.
    assert m.yolov5.map == pytest.approx((7 * 1 + 3 * 0.5) / 10, abs=0.006)


def test_background_images_lower_precision() -> None:
    t = truth((0, 0, 0, 20, 20))
    hit, stray = found((0, 0, 20, 20, 0.5, 0)), found((0, 0, 20, 20, 0.9, 0))
    assert measure([(hit, t), (stray, truth())]).precision == pytest.approx(0.5)
    assert measure([(hit, t), (stray, truth())]).ap == pytest.approx(0.5)


def test_predictions_in_a_crowd_are_no_mistakes() -> None:
    object_, crowd = truth((0, 0, 0, 20, 20)), truth((0, 100, 100, 300, 300), crowd=True)
    both = GroundTruth(*(np.concatenate((getattr(object_, f), getattr(crowd, f))) for f in ("cls", "xyxy", "area", "crowd")))
    rows = found((120, 120, 160, 160, 0.9, 0), (0, 0, 20, 20, 0.8, 0))
    m = measure([(rows, both)])
    assert (m.precision, m.recall, m.ap, m.instances) == pytest.approx([1, 1, 1, 1])
    assert m.confusion.sum() == 1
    assert measure([(rows, object_)]).precision == pytest.approx(0.5)


def test_nothing_to_measure() -> None:
    for images in ([], [(found((0, 0, 9, 9, 0.9, 0)), truth())], [(found(), truth((0, 0, 0, 9, 9), crowd=True))]):
        m = measure(images)
        assert (m.instances, m.per_class) == (0, ())
        assert all(math.isnan(v) for v in (m.ap, m.ap50, m.ap_small, m.precision, m.recall, m.f1, m.yolov5.map50, m.yolov5.map))
        assert {m.summary()[k] for k in ("ap", "ap50", "ap_small", "precision")} == {None}
    m = measure([(found(), truth((0, 0, 0, 9, 9)))])
    assert (m.ap, m.f1, m.yolov5.map, m.instances) == (0, 0, 0, 1)


def test_ranks_merge_without_duplicates() -> None:
    data = random_data(7, images=9, per_image=8)
    whole = measure(data)
    ranks = [Evaluator(NAMES) for _ in range(3)]
    for i in [*range(9), 0, 1, 2]:  # padded, as a sampler that gives each rank as many images would
        ranks[(i * 2) % 3].add(i, *data[i])
    for other in ranks[1:]:
        ranks[0].merge(other.state())
    ranks[0].merge(Evaluator(NAMES).state())
    merged = ranks[0].compute()
    assert merged.summary() == whole.summary()
    np.testing.assert_array_equal(merged.confusion, whole.confusion)
    assert [k for k, _ in ranks[0].detections()] == list(range(9))


def test_per_class_csv(tmp_path: Path) -> None:
    write_per_class(tmp_path / "per_class.csv", measure([(found((0, 0, 20, 20, 0.9, 1)), truth((1, 0, 0, 20, 20)))]))
    with (tmp_path / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["index"], r["name"], r["images"], r["instances"], r["ap"]) for r in rows] == [("1", "b", "1", "1", "1")]
