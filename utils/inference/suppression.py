"""Suppressions by name, ``--nms``: what happens to boxes of a class that overlap.

Each function takes k candidates of one image, the most confident first and each class shifted by an offset, so that boxes of different
classes never overlap, and returns at most `limit` of them, in any order. All are deterministic and without a time limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from utils import geometry
from utils.errors import UserError, nearest

SOFT_SIGMA = 0.5
MATRIX_SIGMA = 2.0
MAX_PAIRED = 3000
"""Boxes of an image that enter a suppression that compares all pairs, the most confident first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes of an image before suppression.

    Attributes:
        boxes: (k, 4) xyxy, shifted by class, float64.
        scores: (k,) confidence, descending, float64.
        iou: threshold.
        conf: boxes whose confidence falls to this or below are dropped.
        limit: maximum number of boxes that are kept.
        models: how many models of an ensemble the boxes come from.
    """

    boxes: Tensor
    scores: Tensor
    iou: float
    conf: float
    limit: int
    models: int = 1

    def first(self, count: int) -> Candidates:
        """The most confident ones."""
        return dataclasses.replace(self, boxes=self.boxes[:count], scores=self.scores[:count])


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """Boxes after suppression.

    Attributes:
        index: (m,) of the candidate that each box was; its class is kept.
        boxes: (m, 4) xyxy, shifted as the candidates are.
        scores: (m,) confidence.
    """

    index: Tensor
    boxes: Tensor
    scores: Tensor


Suppression = Callable[[Candidates], Kept]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of centres over the squared diagonal of the hull: (m, 4), (k, 4) -> (m, k)."""
    shift = (a[:, None, :2] + a[:, None, 2:] - b[None, :, :2] - b[None, :, 2:]) / 2
    hull = torch.maximum(a[:, None, 2:], b[None, :, 2:]) - torch.minimum(a[:, None, :2], b[None, :, :2])
    return shift.square().sum(2) / hull.square().sum(2).clamp(min=1e-9)


def _unchanged(c: Candidates, index: Tensor) -> Kept:
    return Kept(index, c.boxes[index], c.scores[index])


def _soft(c: Candidates, decay: Callable[[Tensor], Tensor]) -> Kept:
    """Soft-NMS: the most confident box is kept, the others lose confidence as they overlap it, and so on."""
    scores, left = c.scores.clone(), torch.ones_like(c.scores, dtype=torch.bool)
    index: list[int] = []
    found: list[Tensor] = []
    while len(index) < c.limit and len(scores):
        best = int(torch.where(left, scores, -torch.ones_like(scores)).argmax())
        if not left[best] or scores[best] <= c.conf:
            break
        index.append(best)
        found.append(scores[best].clone())
        left[best] = False
        scores *= decay(geometry.iou(c.boxes[best], c.boxes))
    kept = torch.tensor(index, dtype=torch.long, device=c.boxes.device)
    return Kept(kept, c.boxes[kept], torch.stack(found) if found else c.scores[:0])


def soft_linear(c: Candidates) -> Kept:
    """Soft-NMS (Bodla et al., ICCV 2017), linear: confidence times 1 - IoU above the threshold."""
    return _soft(c, lambda iou: torch.where(iou > c.iou, 1 - iou, torch.ones_like(iou)))


def soft_gaussian(c: Candidates) -> Kept:
    """Soft-NMS (Bodla et al., ICCV 2017), Gaussian: confidence times exp(-IoU^2 / 0.5); the threshold has no effect."""
    return _soft(c, lambda iou: torch.exp(-iou.square() / SOFT_SIGMA))


def diou(c: Candidates) -> Kept:
    """DIoU-NMS (Zheng et al., AAAI 2020): a box goes where IoU - (distance of the centres)^2 / diagonal^2 is above the threshold."""
    left, index = torch.ones_like(c.scores, dtype=torch.bool), list[int]()
    while len(index) < c.limit and bool(left.any()):
        best = int(left.to(torch.uint8).argmax())
        index.append(best)
        one = c.boxes[best : best + 1]
        left &= geometry.iou(one, c.boxes) - _distances(one, c.boxes)[0] <= c.iou
        left[best] = False
    return _unchanged(c, torch.tensor(index, dtype=torch.long, device=c.boxes.device))


def cluster(c: Candidates) -> Kept:
    """Cluster-NMS (Zheng et al., IEEE Trans. Cybernetics 2022): the boxes of hard NMS, found for all boxes at once.

    Rounds of the upper triangle of IoUs: a box is dropped by any earlier box that is itself not dropped, until nothing changes.
    """
    c = c.first(MAX_PAIRED)
    above = geometry.iou(c.boxes[:, None], c.boxes).triu(1) > c.iou
    kept = torch.ones_like(c.scores, dtype=torch.bool)
    while not torch.equal(kept, now := ~(above & kept[:, None]).any(0)):
        kept = now
    return _unchanged(c, kept.nonzero().squeeze(1)[: c.limit])


def matrix(c: Candidates) -> Kept:
    """Matrix NMS (SOLOv2; Wang et al., NeurIPS 2020), Gaussian: all boxes lose confidence at once; the threshold has no effect.

    A box is decayed by its worst overlap with a more confident box, less so the more that box overlaps one before it.
    """
    c = c.first(MAX_PAIRED)
    if not len(c.scores):
        return _unchanged(c, torch.arange(0, device=c.boxes.device))
    iou = geometry.iou(c.boxes[:, None], c.boxes).triu(1)
    covered = iou.amax(0)  # of each box, by the ones before it
    decay = torch.exp(-MATRIX_SIGMA * (iou.square() - covered.square()[:, None])).amin(0).clamp(max=1)
    scores = c.scores * decay
    order = scores.sort(descending=True, stable=True).indices
    order = order[scores[order] > c.conf][: c.limit]
    return Kept(order, c.boxes[order], scores[order])


def _greedy(c: Candidates) -> Tensor:
    from torchvision.ops import nms

    return nms(c.boxes, c.scores, c.iou)[: c.limit]


def merge(c: Candidates) -> Kept:
    """Hard NMS; each kept box becomes the mean of itself and the boxes it drops, weighted by confidence (YOLOv5's --merge)."""
    index = _greedy(c)
    weights = (geometry.iou(c.boxes[index, None], c.boxes) > c.iou) * c.scores[None]
    weights[torch.arange(len(index), device=index.device), index] = c.scores[index]  # an empty box does not overlap itself
    return Kept(index, weights @ c.boxes / weights.sum(1, keepdim=True), c.scores[index])


def fusion(c: Candidates) -> Kept:
    """Weighted boxes fusion (Solovyev et al., Image and Vision Computing 2021).

    A box joins the cluster whose fused box it overlaps most, if by more than the threshold, or opens one. A cluster's box is the mean
    weighted by confidence, its confidence the mean, times min(boxes, models) / models: what few models of an ensemble see counts less.
    """
    c = c.first(MAX_PAIRED)
    boxes, scores = c.boxes.cpu().numpy(), c.scores.cpu().numpy()
    fused, sums = np.zeros((len(boxes), 4)), np.zeros((len(boxes), 4))
    weights, counts, opened = np.zeros(len(boxes)), np.zeros(len(boxes)), list[int]()
    for i, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        n = len(opened)
        iou = geometry.iou(fused[:n], box)
        at = int(iou.argmax()) if n and iou.max() > c.iou else n
        if at == n:
            opened.append(i)
        sums[at] += score * box
        weights[at] += score
        counts[at] += 1
        fused[at] = sums[at] / weights[at]
    n = len(opened)
    confidence = weights[:n] / np.maximum(counts[:n], 1) * np.minimum(counts[:n], c.models) / c.models
    order = np.argsort(-confidence, kind="stable")
    order = order[confidence[order] > c.conf][: c.limit]

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(values, device=c.boxes.device)

    return Kept(tensor(np.array(opened, np.int64)[order]), tensor(fused[order]), tensor(confidence[order]))


SUPPRESSIONS: dict[str, Suppression] = {
    "soft-linear": soft_linear,
    "soft-gaussian": soft_gaussian,
    "diou": diou,
    "cluster": cluster,
    "matrix": matrix,
    "merge": merge,
    "wbf": fusion,
}
"""By the names that ``--nms`` takes besides ``hard``."""

NAMES = ("hard", *SUPPRESSIONS)


def check_suppression(name: str) -> None:
    """Refuse a name that is none.

    Raises:
        UserError: lists the names.
    """
    if name not in NAMES:
        raise UserError(f"--nms: unknown suppression {name!r}{nearest(name, NAMES)}; there are {', '.join(NAMES)}")
