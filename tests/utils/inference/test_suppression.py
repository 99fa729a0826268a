"""Suppressions against plain loops over single boxes, and what they have in common."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from utils import config
from utils.errors import UserError
from utils.inference.nms import non_max_suppression
from utils.inference.suppression import NAMES, SUPPRESSIONS, check_suppression

Box = list[float]


def scene(seed: int, boxes: int = 40, classes: int = 3) -> Tensor:
    """(1, N, 5 + nc) predictions in clusters."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.rand(6, 2, generator=g)[torch.randint(0, 6, (boxes,), generator=g)] * 200 + 50
    xy = centres + torch.randn(boxes, 2, generator=g) * 8
    wh = 30 + torch.rand(boxes, 2, generator=g) * 30
    return torch.cat((xy, wh, torch.ones(boxes, 1), torch.rand(boxes, classes, generator=g)), 1)[None]


def candidates(pred: Tensor, conf: float) -> list[Box]:
    """[x1, y1, x2, y2, confidence, class], the most confident first."""
    found = []
    for x, y, w, h, obj, *scores in pred[0].tolist():
        best = max(range(len(scores)), key=lambda c: scores[c])
        if obj * scores[best] > conf:
            found.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2, obj * scores[best], float(best)])
    return sorted(found, key=lambda box: -box[4])


def iou(a: Box, b: Box) -> float:
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter) if a[5] == b[5] else 0.0


def distance(a: Box, b: Box) -> float:
    squared = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    return squared / ((max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2)


def plain_greedy(boxes: list[Box], threshold: float, diou: bool) -> list[Box]:
    kept: list[Box] = []
    for box in boxes:
        if not any(iou(k, box) - (distance(k, box) if diou else 0) > threshold for k in kept if k[5] == box[5]):
            kept.append(box)
    return kept


def plain_soft(boxes: list[Box], threshold: float, conf: float, linear: bool) -> list[Box]:
    left, kept = [list(box) for box in boxes], []
    while left:
        best = max(left, key=lambda box: box[4])
        left.remove(best)
        if best[4] <= conf:
            break
        kept.append(best)
        for box in left:
            o = iou(best, box)
            box[4] *= (1 - o if o > threshold else 1) if linear else math.exp(-o * o / 0.5)
    return kept


def plain_matrix(boxes: list[Box], conf: float) -> list[Box]:
    out = []
    for j, box in enumerate(boxes):
        decay = 1.0
        for i in range(j):
            worst = max((iou(boxes[k], boxes[i]) for k in range(i)), default=0.0)
            decay = min(decay, math.exp(-2 * iou(boxes[i], box) ** 2) / math.exp(-2 * worst**2))
        if box[4] * decay > conf:
            out.append([*box[:4], box[4] * decay, box[5]])
    return sorted(out, key=lambda b: -b[4])


def mean(members: list[Box]) -> Box:
    total = sum(m[4] for m in members)
    return [sum(m[4] * m[k] for m in members) / total for k in range(4)]


def plain_merge(boxes: list[Box], threshold: float) -> list[Box]:
    return [[*mean([b for b in boxes if b is k or iou(k, b) > threshold]), *k[4:]] for k in plain_greedy(boxes, threshold, False)]


def plain_fusion(boxes: list[Box], threshold: float, conf: float, models: int) -> list[Box]:
    clusters: list[list[Box]] = []
    for box in boxes:
        overlapping = [iou([*mean(c), 0, c[0][5]], box) for c in clusters]
        if overlapping and max(overlapping) > threshold:
            clusters[overlapping.index(max(overlapping))].append(box)
        else:
            clusters.append([box])
    out = [[*mean(c), sum(b[4] for b in c) / len(c) * min(len(c), models) / models, c[0][5]] for c in clusters]
    return sorted((b for b in out if b[4] > conf), key=lambda b: -b[4])


PLAIN: dict[str, Any] = {
    "soft-linear": lambda b, t, c: plain_soft(b, t, c, True),
    "soft-gaussian": lambda b, t, c: plain_soft(b, t, c, False),
    "diou": lambda b, t, c: plain_greedy(b, t, True),
    "cluster": lambda b, t, c: plain_greedy(b, t, False),
    "matrix": lambda b, t, c: plain_matrix(b, c),
    "merge": lambda b, t, c: plain_merge(b, t),
    "wbf": lambda b, t, c: plain_fusion(b, t, c, 1),
}


@pytest.mark.parametrize("threshold", [0.3, 0.55])
@pytest.mark.parametrize("method", SUPPRESSIONS)
def test_against_a_plain_loop(method: str, threshold: float) -> None:
    for seed in range(5):
        pred = scene(seed)
        (found,) = non_max_suppression(pred, 0.3, threshold, method=method)
        expected = PLAIN[method](candidates(pred, 0.3), threshold, 0.3)
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-3)
        (first,) = non_max_suppression(pred, 0.3, threshold, method=method, max_det=3)
        assert len(first) == min(3, len(expected))


@pytest.mark.parametrize("method", SUPPRESSIONS)
def test_no_box_and_empty_boxes(method: str) -> None:
    empty = torch.tensor([[[5.0, 5, 0, 0, 1, 0.9], [5, 5, 0, 0, 1, 0.8]]])
    assert non_max_suppression(empty, 0.95, 0.5, method=method)[0].shape == (0, 6)
    (found,) = non_max_suppression(empty, 0.5, 0.5, method=method)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0], torch.tensor([5.0, 5, 5, 5, 0.9, 0]))


def test_what_few_models_see_counts_less() -> None:
    pred = scene(0)
    (found,) = non_max_suppression(pred, 0.1, 0.5, method="wbf", models=3)
    expected = plain_fusion(candidates(pred, 0.1), 0.5, 0.1, 3)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-3)


def test_fusion_is_that_of_its_authors() -> None:
    ensemble_boxes = pytest.importorskip("ensemble_boxes")
    pred = scene(1)
    boxes = candidates(pred, 0.2)
    fused, scores, labels = ensemble_boxes.weighted_boxes_fusion(
        [[[v / 400 for v in b[:4]] for b in boxes]], [[b[4] for b in boxes]], [[b[5] for b in boxes]], iou_thr=0.5
    )
    expected = torch.cat((torch.tensor(fused) * 400, torch.tensor(scores)[:, None], torch.tensor(labels)[:, None]), 1).float()
    torch.testing.assert_close(non_max_suppression(pred, 0.2, 0.5, method="wbf")[0], expected, rtol=1e-4, atol=1e-2)


def test_a_name_that_is_none_is_refused() -> None:
    assert config.SUPPRESSIONS == NAMES
    with pytest.raises(UserError, match="did you mean 'soft-linear'"):
        check_suppression("soft-liner")
