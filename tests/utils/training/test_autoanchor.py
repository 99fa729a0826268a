"""AutoAnchor."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils.errors import UserError
from utils.training.autoanchor import box_sizes, check_anchors, fit_anchors, kmeans, measure_fit

DEFAULT = np.array([[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]], float)


class Index:
    def __init__(self, boxes, size=(64, 128)):
        self.sizes = np.array([size] * len(boxes), np.int32)
        self._boxes = boxes

    def annotations_of(self, i):
        return np.array([[0, 0.5, 0.5, *wh] for wh in self._boxes[i]], np.float32).reshape(-1, 5)


class Head:
    def __init__(self, pixels, strides=(8, 16, 32)):
        self.stride = torch.tensor(strides, dtype=torch.float32)
        self.set_anchors(torch.tensor(pixels, dtype=torch.float32).view(len(strides), -1, 2))

    def set_anchors(self, pixels):
        self.pixels, self.anchors = pixels, pixels / self.stride.view(-1, 1, 1)


def test_fit_by_hand():
    boxes, anchors = np.array([[10.0, 10], [30, 10], [100, 100]]), np.array([[10.0, 10], [20, 20]])
    measured = measure_fit(boxes, anchors, 4.0)
    assert measured.recall == pytest.approx(2 / 3)
    assert measured.per_box == pytest.approx(4 / 3)
    assert measured.quality == pytest.approx((1 + 0.5 + 0) / 3)


def test_sizes_are_pixels_of_the_scaled_image():
    sizes = box_sizes(Index([[(0.5, 0.5)]]), 640, seed=0)  # 64 x 128 image, half of each side, scaled by 5: 320 x 160
    assert sizes.shape == (1, 2)
    assert sizes[0, 0] / sizes[0, 1] == pytest.approx(2)
    assert 320 * 0.9 <= sizes[0, 0] <= 320 * 1.1


def test_kmeans_finds_separate_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [50, 0], [0, 50]])
    points = np.concatenate([c + rng.standard_normal((40, 2)) for c in centres])
    found = kmeans(points, 3, np.random.default_rng(1))
    assert {tuple(c) for c in (found / 50).round() * 50} == {tuple(c) for c in centres}
    assert np.abs(found - (found / 50).round() * 50).max() < 1


def test_anchors_that_suit_stay():
    head = Head(DEFAULT)
    before = head.anchors.clone()
    check_anchors(Index([[(0.2, 0.3), (0.5, 0.5)]] * 10), SimpleNamespace(head=head), 640, limit=4.0, seed=0)
    assert torch.equal(head.anchors, before)


def test_anchors_that_miss_are_replaced_and_repeat(caplog):
    boxes = [[(0.9, 0.02 + 0.001 * i)] for i in range(30)]  # flat strips no default anchor reaches
    found = []
    for _ in range(2):
        head = Head(DEFAULT)
        check_anchors(Index(boxes), SimpleNamespace(head=head), 640, limit=4.0, seed=0)
        found.append(head.pixels)
    assert torch.equal(*found)
    sizes = box_sizes(Index(boxes), 640, seed=0)
    assert measure_fit(sizes, found[0].view(-1, 2).double().numpy(), 4.0).recall == 1
    areas = found[0].prod(2).flatten()
    assert torch.equal(areas, areas.sort().values)


def test_levels_follow_their_strides():
    head = Head(DEFAULT[::-1].copy(), strides=(32, 16, 8))
    check_anchors(Index([[(0.9, 0.02 + 0.001 * i)] for i in range(30)]), SimpleNamespace(head=head), 640, limit=4.0, seed=0)
    assert head.pixels[0].prod(1).min() > head.pixels[2].prod(1).max()


def test_too_few_boxes():
    with pytest.raises(UserError, match=r"2 boxes .* too few to fit 9 anchors"):
        fit_anchors(np.array([[10.0, 10], [20, 20], [0.5, 0.5]]), 9, 4.0, 0)


def test_coco128(shared):
    data = pytest.importorskip("utils.data.config").load_data(shared / "coco128" / "coco128.yaml")
    index = pytest.importorskip("utils.data.scan").load_index(data, "train")
    draws = [measure_fit(box_sizes(index, 640, seed), DEFAULT, 4.0) for seed in range(10)]  # YOLOv5's 4.27 is one sample of such a jitter
    assert len(box_sizes(index, 640, seed=0)) == 929
    assert np.mean([d.per_box for d in draws]) == pytest.approx(4.27, abs=0.01)
    assert np.mean([d.recall for d in draws]) == pytest.approx(0.994, abs=0.001)
