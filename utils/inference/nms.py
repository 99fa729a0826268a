"""Non-maximum suppression: decoded predictions to detections. Deterministic, and without a time limit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from utils.boxes import cxcywh_to_xyxy
from utils.inference.suppression import SUPPRESSIONS, Candidates

MAX_CANDIDATES = 30_000
"""Boxes of an image that enter the suppression at most, the most confident first (as in YOLOv5)."""

_FIRST_GROUP = 2048
_PARTS = 3  # a third of the pairs to compare; more parts cost more calls than they save


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
    method: str = "hard",
    models: int = 1,
) -> list[Tensor]:
    """Keep the boxes that no more confident box of the same class overlaps by more than `iou`, or what another `method` makes of them.

    Args:
        pred: (B, N, 5 + nc) decoded predictions: cx, cy, w, h in pixels, objectness, class probabilities.
        conf: a box is kept when objectness times class probability is above this.
        iou: IoU above which the less confident of two boxes is dropped.
        classes: keep predictions of these classes only; `prior` is not filtered.
        agnostic: boxes of different classes suppress each other too.
        multi_label: a box yields a detection for each class above `conf`, not for its best class only.
        max_det: maximum number of detections per image.
        prior: for each image a (k, 5) tensor of class id and xyxy pixels; these enter the suppression with confidence 1.
        method: ``hard``, or a name of `SUPPRESSIONS`, some of which change boxes or confidences.
        models: how many models of an ensemble the predictions come from, for ``wbf``.

    Returns:
        For each image a (k, 6) float32 tensor of xyxy pixels, confidence, class id; most confident first, ties in the order of `pred`.
    """
    assert 0 <= conf <= 1, conf
    assert 0 <= iou <= 1, iou
    wanted = None if classes is None else torch.as_tensor(sorted(set(classes)), device=pred.device)
    out = []
    # No class probability is above 1, so objectness alone rules out most boxes before the classes are read.
    for i, (image, some) in enumerate(zip(pred, pred[..., 4] > conf, strict=True)):
        found = _candidates(image[some].float(), conf, multi_label and pred.shape[2] > 6)
        if wanted is not None:
            found = found[torch.isin(found[:, 5].long(), wanted)]
        if prior is not None:
            given = prior[i].to(found)
            found = torch.cat((torch.cat((given[:, 1:5], torch.ones_like(given[:, :1]), given[:, :1]), 1), found))
        if method == "hard":
            out.append(_suppress(found, iou, max_det, agnostic))
        else:
            out.append(_suppress_by(method, found, iou, conf, max_det, agnostic, models))
    return out


def _candidates(image: Tensor, conf: float, multi_label: bool) -> Tensor:
    """(N, 5 + nc) -> (k, 6) xyxy, confidence, class id: those above `conf`, unsorted."""
    score = image[:, 5:] * image[:, 4:5]
    if multi_label:
        index, cls = (score > conf).nonzero(as_tuple=True)
        best = score[index, cls]
    else:
        best, cls = score.max(1)
        index = (best > conf).nonzero().squeeze(1)
        best, cls = best[index], cls[index]
    return torch.cat((cxcywh_to_xyxy(image[:, :4])[index], best[:, None], cls[:, None].to(best)), 1)


def _suppress(found: Tensor, iou: float, max_det: int, agnostic: bool) -> Tensor:
    """Greedy suppression over (k, 6) xyxy, confidence, class id.

    Which of the n most confident boxes are kept does not depend on the boxes after them, and only kept boxes suppress later ones.
    So the boxes are processed in growing groups, each together with what was kept before, until `max_det` are kept: the result is
    that of one pass over all. Each class is shifted by an offset of its own, so boxes of different classes never overlap, and each
    group is processed in parts of some classes each.
    """
    order = found[:, 4].sort(descending=True, stable=True).indices[:MAX_CANDIDATES]
    boxes, scores = found[:, :4].double(), found[order, 4].double()
    boxes = (boxes + _offsets(found, agnostic))[order]
    part = torch.zeros_like(scores) if agnostic else found[order, 5] % _PARTS
    kept, first, size = order[:0], 0, _FIRST_GROUP
    while first < len(order) and len(kept) < max_det:
        group = torch.cat((kept, torch.arange(first, min(first + size, len(order)), device=found.device)))
        parts = (group[part[group] == k] for k in range(1 if agnostic else _PARTS))
        kept = torch.cat([some[nms(boxes[some], scores[some], iou)] for some in parts]).sort().values[:max_det]
        first, size = first + size, size * 2
    return found[order[kept]]


def _offsets(found: Tensor, agnostic: bool) -> Tensor:
    """(k, 6) -> (k, 1) float64 pixels by which the boxes of each class are shifted away from those of the others."""
    if agnostic or not len(found):
        return found.new_zeros((len(found), 1), dtype=torch.float64)
    boxes = found[:, :4].double()  # in float32 the offset of a high class id would round the boxes to a sixteenth of a pixel
    return found[:, 5:6].double() * (boxes.max() - boxes.min() + 1)


def _suppress_by(method: str, found: Tensor, iou: float, conf: float, max_det: int, agnostic: bool, models: int) -> Tensor:
    """Suppression by another method than hard, over (k, 6) xyxy, confidence, class id."""
    order = found[:, 4].sort(descending=True, stable=True).indices[:MAX_CANDIDATES]
    found, shift = found[order], _offsets(found, agnostic)[order]
    kept = SUPPRESSIONS[method](Candidates(found[:, :4].double() + shift, found[:, 4].double(), iou, conf, max_det, models))
    out = torch.cat((kept.boxes - shift[kept.index], kept.scores[:, None], found[kept.index, 5:].double()), 1).float()
    return out[out[:, 4].sort(descending=True, stable=True).indices]
