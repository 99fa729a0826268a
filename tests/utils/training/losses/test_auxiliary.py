"""YOLOv7's lead-guided assignment against a plain loop, on random predictions."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor

from models.heads.implicit import IAuxDetect
from utils.config import Hyp
from utils.training.losses.auxiliary import AuxiliaryLoss

ANCHORS = ((10, 20, 30, 40), (50, 60, 70, 80))
CLASSES = 3


def head() -> IAuxDetect:
    found = IAuxDetect((16, 32, 16, 32), CLASSES, ANCHORS)
    found.set_strides((8, 16))
    return found


def scene(seed: int) -> tuple[list[Tensor], Tensor]:
    g = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, 2, n, n, 5 + CLASSES, generator=g) for n in (8, 4)]
    targets = torch.rand(8, 6, generator=g)
    targets[:, 0] = torch.arange(8) % 2
    targets[:, 1] = torch.arange(8) % CLASSES
    targets[:, 4:] = targets[:, 4:] * 0.8 + 0.1
    return maps, targets


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    sides = [max(0.0, min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2)) for k in (0, 1)]
    inter = sides[0] * sides[1]
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


def plain(maps: list[Tensor], anchors: Tensor, targets: Tensor, reach: float, count: int) -> set[tuple[int, ...]]:
    """(level, image, anchor, row, column, target) of all matches."""
    costs: dict[int, dict[tuple[int, ...], tuple[float, float]]] = defaultdict(dict)
    for level, raw in enumerate(maps):
        n = raw.shape[2]
        for t, (image, cls, *box) in enumerate(targets.double().tolist()):
            cx, cy, w, h = (v * n for v in box)
            column, row = int(cx), int(cy)
            cells = [(row, column)]
            cells += [(row, column - 1)] if cx % 1 < reach and cx > 1 else []
            cells += [(row - 1, column)] if cy % 1 < reach and cy > 1 else []
            cells += [(row, column + 1)] if (n - cx) % 1 < reach and n - cx > 1 else []
            cells += [(row + 1, column)] if (n - cy) % 1 < reach and n - cy > 1 else []
            for a, (aw, ah) in enumerate(anchors[level].tolist()):
                if max(w / aw, aw / w, h / ah, ah / h) >= 4:
                    continue
                for y, x in cells:
                    p = [sigmoid(v) for v in raw[int(image), a, y, x].double().tolist()]
                    found = (p[0] * 2 - 0.5 + x, p[1] * 2 - 0.5 + y, (2 * p[2]) ** 2 * aw, (2 * p[3]) ** 2 * ah)
                    overlap = iou(found, (cx, cy, w, h))
                    q = [math.sqrt(p[4] * v) for v in p[5:]]
                    entropy = sum(-math.log(v if k == cls else 1 - v) for k, v in enumerate(q))
                    costs[t][level, int(image), a, y, x] = overlap, entropy - 3 * math.log(overlap + 1e-8)
    wishes: dict[tuple[int, ...], list[tuple[float, int]]] = defaultdict(list)
    for t, known in costs.items():
        wanted = max(1, int(sum(sorted((o for o, _ in known.values()), reverse=True)[:count])))
        for place in sorted(known, key=lambda p: known[p][1])[:wanted]:
            wishes[place].append((known[place][1], t))
    return {(*place, min(each)[1]) for place, each in wishes.items()}


@pytest.mark.parametrize(("reach", "count"), [(0.5, 10), (1.0, 20)])
def test_against_a_plain_loop(reach: float, count: int) -> None:
    loss = AuxiliaryLoss(head(), Hyp(), 64, CLASSES, guided=True)
    sizes = []
    for seed in range(8):
        maps, targets = scene(seed)
        matches = loss.assign(maps, targets, reach, count)
        found = {
            (level, *map(int, values))
            for level, m in enumerate(matches)
            for values in zip(m.image, m.anchor, m.row, m.column, m.target, strict=True)
        }
        assert found == plain(maps, loss.head.anchors, targets, reach, count)
        sizes.append(sum(len(m.cls) for m in matches))
    assert min(sizes) >= 8


def test_auxiliary_predictions_count_a_quarter_and_learn_from_the_leads() -> None:
    loss = AuxiliaryLoss(head(), Hyp(), 64, CLASSES, guided=True)
    maps, targets = scene(0)
    other = [torch.randn_like(m).requires_grad_() for m in maps]
    total, terms = loss([*maps, *other], targets)
    alone, _ = loss(maps, targets)
    coarse, _ = loss.total(other, loss.assign(maps, targets, 1.0, 20))
    torch.testing.assert_close(total, alone + coarse / 4)
    torch.testing.assert_close(sum(terms.values()) * 2, total.detach())  # two images
    total.backward()
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in other)


def test_without_objects() -> None:
    loss = AuxiliaryLoss(head(), Hyp(), 64, CLASSES, guided=True)
    maps, _ = scene(0)
    total, terms = loss([*maps, *maps], torch.zeros(0, 6))
    assert torch.isfinite(total)
    assert terms["box"] == terms["cls"] == 0
