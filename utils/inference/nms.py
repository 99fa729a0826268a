"""Non-maximum suppression: decoded predictions in, the boxes worth keeping out. Deterministic, and without a time limit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from utils.boxes import cxcywh_to_xyxy

MAX_CANDIDATES = 30_000
"""Boxes of an image that may enter the suppression, the most confident first (YOLOv5's figure)."""

_FIRST_GROUP = 2048
_LANES = 3  # a third of the pairs to compare; more lanes cost more calls than they save


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in the calling thread: a second one takes a fifth off the time and doubles the processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def non_max_suppression(
    pred: Tensor,
    conf: float,
    iou: float,
    *,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    multi_label: bool = False,
    max_det: int = 300,
    prior: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Keep the boxes that no more confident box of the same class overlaps.

    Args:
        pred: (B, N, 5 + nc) decoded predictions: cx, cy, w, h in pixels, objectness, class probabilities.
        conf: a box is kept when objectness times class probability is above this.
        iou: IoU above which the less confident of two boxes is dropped.
        classes: keep predictions of these classes only; `prior` is not looked at.
        agnostic: boxes of different classes suppress each other too.
        multi_label: a box yields a row for each class above `conf`, not for its best class only.
        max_det: most boxes kept an image.
        prior: for each image a (k, 5) tensor of class and xyxy pixels; these enter the suppression with confidence 1.

    Returns:
        For each image a (k, 6) float32 tensor of xyxy pixels, confidence, class; most confident first, ties in the order of `pred`.
    """
    assert 0 <= conf <= 1, conf
    assert 0 <= iou <= 1, iou
    wanted = None if classes is None else torch.as_tensor(sorted(set(classes)), device=pred.device)
    out = []
    # No class probability is above 1, so objectness alone rules out most rows before the classes are read.
    for i, (image, some) in enumerate(zip(pred, pred[..., 4] > conf, strict=True)):
        rows = _candidates(image[some].float(), conf, multi_label and pred.shape[2] > 6)
        if wanted is not None:
            rows = rows[torch.isin(rows[:, 5].long(), wanted)]
        if prior is not None:
            rows = torch.cat((_as_rows(prior[i].to(rows)), rows))
        out.append(_suppress(rows, iou, max_det, agnostic))
    return out


def _candidates(image: Tensor, conf: float, multi_label: bool) -> Tensor:
    """(N, 5 + nc) -> (k, 6) xyxy, confidence, class: the rows above `conf`, unsorted."""
    score = image[:, 5:] * image[:, 4:5]
    if multi_label:
        row, label = (score > conf).nonzero(as_tuple=True)
        best = score[row, label]
    else:
        best, label = score.max(1)
        row = (best > conf).nonzero().squeeze(1)
        best, label = best[row], label[row]
    return torch.cat((cxcywh_to_xyxy(image[:, :4])[row], best[:, None], label[:, None].to(best)), 1)


def _as_rows(prior: Tensor) -> Tensor:
    """(k, 5) class, xyxy -> (k, 6) xyxy, confidence 1, class."""
    return torch.cat((prior[:, 1:5], torch.ones_like(prior[:, :1]), prior[:, :1]), 1)


def _suppress(rows: Tensor, iou: float, max_det: int, agnostic: bool) -> Tensor:
    """Greedy suppression over (k, 6) rows.

    What is kept of the n most confident rows does not depend on the rows after them, and only kept rows suppress later ones. So
    the rows go through in growing groups, each together with what was kept before, until `max_det` are kept: the result is that
    of one pass over all rows. Rows of different classes do not meet, so each group goes through in lanes of some classes each.
    """
    order = rows[:, 4].sort(descending=True, stable=True).indices[:MAX_CANDIDATES]
    boxes, scores = _apart(rows, agnostic)[order], rows[order, 4].double()
    lane = torch.zeros_like(scores) if agnostic else rows[order, 5] % _LANES
    kept, first, size = order[:0], 0, _FIRST_GROUP
    while first < len(order) and len(kept) < max_det:
        group = torch.cat((kept, torch.arange(first, min(first + size, len(order)), device=rows.device)))
        of_group = lane[group]
        lanes = (group[of_group == k] for k in range(1 if agnostic else _LANES))
        kept = torch.cat([some[nms(boxes[some], scores[some], iou)] for some in lanes]).sort().values[:max_det]
        first, size = first + size, size * 2
    return rows[order[kept]]


def _apart(rows: Tensor, agnostic: bool) -> Tensor:
    """The rows' boxes, each class moved to a place of its own so that only boxes of one class overlap."""
    boxes = rows[:, :4]
    if agnostic or not len(rows):
        return boxes.double()
    boxes = boxes.double()  # in float32 the shift of a high class would round the boxes to a sixteenth of a pixel
    span = boxes.max() - boxes.min() + 1
    return boxes + (rows[:, 5:6].double() * span)
