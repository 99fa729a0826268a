"""Matching against pycocotools' own, detection by detection; the file is whole, refused, or absent."""

import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from utils.compare.match_store import StoredMatches, match_detections
from utils.data.index import GroundTruth
from utils.errors import UserError
from utils.evaluation.metrics import Evaluator

NAMES = {0: "a", 1: "b", 2: "c"}


def random_boxes(random: np.random.Generator, n: int) -> NDArray[np.float32]:
    low = random.uniform(0, 400, (n, 2))
    return np.concatenate((low, low + random.uniform(4, 240, (n, 2))), 1).astype(np.float32)


def fill(seed: int, images: int = 12) -> Evaluator:
    """Crowds, images without objects or without predictions, more than 100 predictions of a class, equal confidences, twin boxes."""
    random, evaluator = np.random.default_rng(seed), Evaluator(NAMES)
    for i in random.permutation(images):
        n = int(random.integers(0, 8)) if i % 6 else 0
        boxes, labels = random_boxes(random, n), random.integers(0, 2, n)
        boxes[1:2] = boxes[:1]  # a twin: equal overlaps
        near = np.repeat(boxes, 3, 0) + random.choice([0, 5, 20], (3 * n, 1)) * random.normal(0, 1, (3 * n, 4)).astype(np.float32)
        guess = np.concatenate((near, random_boxes(random, 130 if i == 1 else 4))) if i % 5 else random_boxes(random, 0)
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        classes = np.concatenate((np.repeat(labels, 3), np.ones(len(guess), int)))[: len(guess)]
        rows = np.column_stack((guess, np.round(random.uniform(0, 1, len(guess)), 1), classes)).astype(np.float32)
        area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * random.uniform(0.4, 1, n)).astype(np.float32)
        area[:1] = random.choice([32**2, 96**2])  # at a border: of two areas
        evaluator.add(int(i) * 10, rows, GroundTruth(cls=labels, xyxy=boxes, area=area, crowd=random.uniform(size=n) < 0.2))
    return evaluator


def dataset(evaluator: Evaluator) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects and results as pycocotools reads them."""
    images = evaluator.images()
    objects: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []

    def box(row: NDArray[np.float32]) -> list[float]:
        x, y, right, bottom = (float(v) for v in row[:4])
        return [x, y, right - x, bottom - y]

    for image_id, image in images.items():
        for xyxy, c, area, crowd in zip(image.xyxy, image.cls, image.area, image.crowd, strict=True):
            row = {"image_id": image_id, "category_id": int(c), "bbox": box(xyxy), "area": float(area), "iscrowd": int(crowd)}
            objects.append({**row, "id": len(objects) + 1})
        results += [
            {"image_id": image_id, "category_id": int(row[5]), "bbox": box(row), "score": float(row[4])} for row in image.detections
        ]
    head = {"info": {}, "images": [{"id": i} for i in images], "categories": [{"id": c, "name": n} for c, n in NAMES.items()]}
    return {**head, "annotations": objects}, results


def oracle(evaluator: Evaluator) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset, results = dataset(evaluator)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    return evaluation


@pytest.mark.parametrize("seed", range(4))
def test_every_detection_is_matched_and_ignored_as_by_pycocotools(seed: int) -> None:
    evaluator = fill(seed)
    got, want = match_detections(evaluator), oracle(evaluator)
    images = len(got.images)
    assert got.images.tolist() == list(evaluator.images())
    compared = 0
    for place, single in enumerate(want.evalImgs):  # by class, area, image
        c, area, image = place // (4 * images), place // images % 4, place % images
        own = (got.cls == c) & (got.image == image)
        objects = (got.object_cls == c) & (got.object_image == image)
        if single is None:
            assert not own.any()
            assert not objects.any()
            continue
        np.testing.assert_array_equal(got.score[own], np.array(single["dtScores"], np.float32))
        np.testing.assert_array_equal(got.matched[own, :, area].T, single["dtMatches"] > 0)
        np.testing.assert_array_equal(got.ignored[own, :, area].T, single["dtIgnore"].astype(bool))
        assert got.object_area[objects, area].sum() == np.sum(1 - np.asarray(single["gtIgnore"]))
        compared += own.sum()
    assert compared == 4 * len(got.score) > 500


def test_detections_come_by_class_then_confidence_then_image() -> None:
    evaluator = Evaluator(NAMES)
    nothing = GroundTruth(
        cls=np.zeros(0, np.int64), xyxy=np.zeros((0, 4), np.float32), area=np.zeros(0, np.float32), crowd=np.zeros(0, bool)
    )
    for key, rows in ((7, [(0.5, 1), (0.9, 0)]), (3, [(0.5, 1), (0.9, 1), (0.5, 0)])):
        evaluator.add(key, np.array([(0, 0, 9, 9, *row) for row in rows], np.float32), nothing)
    got = match_detections(evaluator)
    assert (got.images.tolist(), got.names) == ([3, 7], ("a", "b", "c"))
    assert got.cls.tolist() == [0, 0, 1, 1, 1]
    assert got.score.tolist() == pytest.approx([0.9, 0.5, 0.9, 0.5, 0.5])
    assert got.image.tolist() == [1, 0, 0, 0, 1]


def test_nothing_measured_matches_nothing() -> None:
    got = match_detections(Evaluator(NAMES))
    assert (got.score.shape, got.matched.shape, got.object_area.shape) == ((0,), (0, 10, 4), (0, 4))


def test_a_file_holds_all_of_it_and_is_the_same_each_time(tmp_path: Path) -> None:
    for seed in (0, 1):
        got = match_detections(fill(seed))
        got.save(tmp_path / "a.npz")
        got.save(tmp_path / "b.npz")
        assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
        back = StoredMatches.load(tmp_path / "a.npz")
        for name in StoredMatches.__slots__:
            np.testing.assert_array_equal(getattr(back, name), getattr(got, name))
            assert name == "names" or getattr(back, name).dtype == getattr(got, name).dtype
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_names_of_all_kinds_survive(tmp_path: Path) -> None:
    names = ("<b>", 'größe, "x"\n', "\0")
    dataclasses.replace(match_detections(fill(0)), names=names).save(tmp_path / "a.npz")
    assert StoredMatches.load(tmp_path / "a.npz").names == names


def test_a_flipped_bit_a_cut_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    match_detections(fill(0)).save(path)
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 50).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(UserError, match="damaged"):
            StoredMatches.load(path)
    for content in (b"", whole[:-10], whole[: len(whole) // 2], b"PK" * 400):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            StoredMatches.load(path)
    path.write_bytes(whole)
    assert StoredMatches.load(path).images.size == 12


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from utils.files.checksum import write_checksum

    path = tmp_path / "a.npz"
    np.savez(path, version=np.array(99), score=np.zeros(3))
    with path.open("r+b") as file:
        write_checksum(file)
    with pytest.raises(UserError, match="version 99"):
        StoredMatches.load(path)


def test_a_file_of_version_1_has_no_error_types_and_forged_ones_are_refused(tmp_path: Path) -> None:
    from utils.files.checksum import write_checksum

    path, whole = tmp_path / "a.npz", match_detections(fill(0))
    whole.save(path)
    with np.load(path) as file:
        arrays = dict(file)

    def load(**other: object) -> StoredMatches:
        kept = {name: values for name, values in (arrays | other).items() if values is not None}
        np.savez(path, **kept)
        with path.open("r+b") as file:
            write_checksum(file)
        return StoredMatches.load(path)

    old = load(version=np.array(1), error=None, target=None)
    np.testing.assert_array_equal(old.matched, whole.matched)
    assert len(old.error) == len(old.target) == 0
    for name, value in (("error", 7), ("target", len(whole.object_cls)), ("target", -2)):
        with pytest.raises(UserError, match="index outside its range"):
            load(**{name: np.full_like(arrays[name], value)})
    with pytest.raises(UserError, match="other shapes"):
        load(target=arrays["target"][:-1])


def test_a_file_that_cannot_be_written_or_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        match_detections(fill(0)).save(tmp_path / "none" / "a.npz")
    with pytest.raises(UserError, match="cannot be read"):
        StoredMatches.load(tmp_path / "a.npz")


def test_other_ground_truth_is_noticed() -> None:
    a, b = match_detections(fill(0)), match_detections(fill(1))
    assert a.same_ground_truth(match_detections(fill(0)))
    assert not a.same_ground_truth(b)
    assert not a.same_ground_truth(dataclasses.replace(a, names=("a", "b", "d")))
