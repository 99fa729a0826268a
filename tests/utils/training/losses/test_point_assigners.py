"""Assigners of heads without anchors against plain loops, on random scenes with empty images, tiny objects and huge ones."""

from __future__ import annotations

import itertools
import math
from statistics import fmean, stdev

import pytest
import torch
from torch import Tensor

from utils.training.losses.point_assigners import POINT_ASSIGNERS
from utils.training.losses.scene import Scene, padded

SIDE = 96
STRIDES = (8, 16, 32)
CLASSES = 3
Box = list[float]


def scene(seed: int, images: int = 3) -> Scene:
    """Up to six objects an image; some smaller than a cell, some larger than the image; boxes that cover them more or less."""
    g = torch.Generator().manual_seed(seed)
    cells = [(x * s + s / 2, y * s + s / 2, s) for s in STRIDES for y, x in itertools.product(range(SIDE // s), repeat=2)]
    points, strides = torch.tensor([c[:2] for c in cells]), torch.tensor([float(c[2]) for c in cells])
    count = int(torch.randint(0, 6 * images, (), generator=g))
    targets = torch.rand(count, 6, generator=g)
    targets[:, 0] = torch.randint(0, images - seed % 2, (count,), generator=g)  # the last image is empty in every second scene
    targets[:, 1] = torch.randint(0, CLASSES, (count,), generator=g)
    targets[:, 4:] = 0.1 + 0.4 * targets[:, 4:]
    targets[::4, 4:] *= 0.02
    targets[1::5, 4:] *= 4
    objects, classes, exists = padded(targets, images, torch.tensor([SIDE, SIDE]))
    reach = strides[:, None] * torch.exp(torch.randn(images, len(cells), 2, generator=g) * 0.6) * 1.5
    centres = points + torch.randn(images, len(cells), 2, generator=g) * strides[:, None] / 2
    boxes = torch.cat((centres - reach, centres + reach), 2)
    return Scene(points, strides, torch.rand(images, len(cells), CLASSES, generator=g), boxes, objects, classes, exists)


def iou(a: Box, b: Box) -> float:
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter + 1e-9)


def is_inside(point: Box, box: Box) -> bool:
    return all(abs(point[k] - (box[k] + box[k + 2]) / 2) <= max((box[k + 2] - box[k]) / 2, min(STRIDES) / 2) for k in (0, 1))


def is_near(point: Box, stride: float, box: Box) -> bool:
    return all(abs(point[k] - (box[k] + box[k + 2]) / 2) < 2.5 * stride for k in (0, 1))


def plain_task_aligned(
    points: list[Box], strides: list[float], scores: list[Box], boxes: list[Box], objects: list[Box], classes: list[int]
):
    overlaps = [[iou(o, b) for b in boxes] for o in objects]
    aligned = [[scores[n][c] ** 0.5 * overlaps[m][n] ** 6 for n in range(len(points))] for m, c in enumerate(classes)]
    wishes: dict[int, list[int]] = {}
    for m, box in enumerate(objects):
        allowed = [n for n in range(len(points)) if is_inside(points[n], box)]
        for n in sorted(allowed, key=lambda n: -aligned[m][n])[:10]:
            wishes.setdefault(n, []).append(m)
    owner = {n: max(ms, key=lambda m: overlaps[m][n]) for n, ms in wishes.items()}
    quality = {}
    for n, m in owner.items():
        own = [k for k in owner if owner[k] == m]
        best = max(aligned[m][k] for k in own)
        quality[n] = aligned[m][n] * max(overlaps[m][k] for k in own) / (best + 1e-9)
    return owner, quality


def plain_simota(points, strides, scores, boxes, objects, classes):
    overlaps = [[iou(o, b) for b in boxes] for o in objects]
    wishes: dict[int, list[tuple[float, int]]] = {}
    for m, box in enumerate(objects):
        costs = {}
        for n, point in enumerate(points):
            inside, near = is_inside(point, box), is_near(point, strides[n], box)
            if inside or near:
                entropy = sum(-math.log(p if c == classes[m] else 1 - p) for c, p in enumerate(scores[n]))
                costs[n] = entropy - 3 * math.log(overlaps[m][n] + 1e-8) + (0 if inside and near else 1e5)
        wanted = max(1, int(sum(sorted((overlaps[m][n] for n in costs), reverse=True)[:10])))
        for n in sorted(costs, key=lambda n: costs[n])[:wanted]:
            wishes.setdefault(n, []).append((costs[n], m))
    owner = {n: min(each)[1] for n, each in wishes.items()}
    return owner, {n: overlaps[m][n] for n, m in owner.items()}


def plain_atss(points, strides, scores, boxes, objects, classes):
    wishes: dict[int, list[tuple[float, int]]] = {}
    squares = [[p[0] - 2.5 * s, p[1] - 2.5 * s, p[0] + 2.5 * s, p[1] + 2.5 * s] for p, s in zip(points, strides, strict=True)]
    for m, box in enumerate(objects):
        middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
        near: list[int] = []
        for s in STRIDES:
            level = [n for n in range(len(points)) if strides[n] == s]
            near += sorted(level, key=lambda n: (points[n][0] - middle[0]) ** 2 + (points[n][1] - middle[1]) ** 2)[:9]
        found = [iou(box, squares[n]) for n in near]
        limit = fmean(found) + stdev(found)
        for n, overlap in zip(near, found, strict=True):
            if overlap >= limit and is_inside(points[n], box):
                wishes.setdefault(n, []).append((overlap, m))
    owner = {n: max(each)[1] for n, each in wishes.items()}
    return owner, {n: iou(objects[m], boxes[n]) for n, m in owner.items()}


PLAIN = {"task-aligned": plain_task_aligned, "simota": plain_simota, "atss": plain_atss}


def compare(name: str, seed: int) -> None:
    it = scene(seed)
    found = POINT_ASSIGNERS[name](it)
    for i in range(len(it.objects)):
        real = it.exists[i]
        lists = [t.double().tolist() for t in (it.points, it.strides, it.scores[i], it.boxes[i], it.objects[i][real])]
        owner, quality = PLAIN[name](*lists, it.classes[i][real].tolist())
        expected = torch.full_like(found.owner[i], -1)
        values = torch.zeros_like(found.quality[i])
        for n, m in owner.items():
            expected[n], values[n] = m, quality[n]
        assert torch.equal(found.owner[i], expected), (seed, i)
        torch.testing.assert_close(found.quality[i], values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_against_a_plain_loop(name: str) -> None:
    for seed in range(12):
        compare(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_against_a_plain_loop_on_500_scenes(name: str) -> None:
    for seed in range(12, 512):
        compare(name, seed)


def test_every_object_but_hidden_ones_is_predicted_by_a_cell() -> None:
    for name in ("task-aligned", "simota"):
        for seed in range(30):
            it = scene(seed)
            found = POINT_ASSIGNERS[name](it)
            for i, own in enumerate(found.owner):
                missed = set(range(int(it.exists[i].sum()))) - set(own.tolist())
                assert all(competes(it.objects[i], m, it.exists[i]) for m in missed), (name, seed, i)


def competes(objects: Tensor, m: int, exists: Tensor) -> bool:
    """Whether another object covers the cells around this one's centre."""
    x, y = ((objects[m, :2] + objects[m, 2:]) / 2).tolist()
    others = [o for k, o in enumerate(objects.tolist()) if k != m and exists[k]]
    return any(o[0] - 40 < x < o[2] + 40 and o[1] - 40 < y < o[3] + 40 for o in others)
