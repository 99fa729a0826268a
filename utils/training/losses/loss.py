"""The detection loss: CIoU of matched boxes, objectness of every cell, classes of matched cells.

Letters: B images, A anchors, K classes, M matches; a raw map is (B, A, ny, nx, 5 + K), as the head returns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.boxes import ciou
from utils.config import Hyp
from utils.distributed import SINGLE, Ranks, sum_over_ranks
from utils.training.losses.assigners import Matches, assign

_BALANCE = {3: (4.0, 1.0, 0.4)}
_BALANCE_ELSE = (4.0, 1.0, 0.25, 0.06, 0.02)
_FOCAL_ALPHA = 0.25

Terms = dict[str, Tensor]


class Head(Protocol):
    """What the loss needs to know of a detection head."""

    anchors: Tensor
    """(levels, A, 2) in cells."""


class DetectionLoss:
    """YOLOv5's loss, times the batch size.

    Args:
        head: the model's head; its anchors are read at each call, so they may move to another device.
        hyp: gains box, obj and cls (scaled here to levels, classes and image size), positive weights, fl_gamma, anchor_t.
        imgsz: side of the training images in pixels.
        nc: number of classes K.
        label_smoothing: epsilon; class targets become 1 - epsilon/2 and epsilon/2.
        ranks: the processes that share the global batch. Their counts of images and matches are summed, and the total is
            multiplied by their number, so that averaged gradients are those of one process with the whole batch. The
            terms are then this rank's share: their sum over the ranks is the term.
    """

    def __init__(self, head: Head, hyp: Hyp, imgsz: int, nc: int, *, label_smoothing: float = 0.0, ranks: Ranks = SINGLE) -> None:
        levels = len(head.anchors)
        self.head, self.nc, self.ranks = head, nc, ranks
        self.box_gain = hyp.box * 3 / levels
        self.obj_gain = hyp.obj * 3 / levels * (imgsz / 640) ** 2
        self.cls_gain = hyp.cls * 3 / levels * nc / 80
        self.obj_weight, self.cls_weight = hyp.obj_pw, hyp.cls_pw
        self.gamma, self.limit = hyp.fl_gamma, hyp.anchor_t
        self.positive, self.negative = 1 - label_smoothing / 2, label_smoothing / 2
        self.balance = _BALANCE.get(levels, (*_BALANCE_ELSE, *[_BALANCE_ELSE[-1]] * levels)[:levels])

    def __call__(self, maps: Sequence[Tensor], targets: Tensor, whole: Sequence[float] | None = None) -> tuple[Tensor, Terms]:
        """Return the scalar to run backward from, and the weighted terms "box", "obj", "cls", detached.

        Args:
            maps: one raw map a level.
            targets: (n, 6) image, class, then cx, cy, w, h as shares of the image; n may be 0.
            whole: where these are a part of a batch, the batch's `counts`; the loss is then the part's share of the batch's.
        """
        matches = self._assign(maps, targets)
        images = maps[0].shape[0]
        here = [images, *(len(m.cls) for m in matches)]
        total_images, *counts = whole or sum_over_ranks(here, maps[0].device, self.ranks)
        box = cls = obj = maps[0].new_zeros((), dtype=torch.float32)
        for i, (raw, match, count) in enumerate(zip(maps, matches, counts, strict=True)):
            logits, rows = _pick(raw, match)
            goal = torch.zeros_like(logits)
            if len(rows):
                iou = _iou(rows, match, self.head.anchors[i])
                box = box + (1 - iou).sum() / count
                cls = cls + self._classes(rows[:, 5:], match.cls) / count
                _raise_to(goal, match, iou.detach().clamp(min=0))
            share = images / total_images  # a mean over this rank's cells, weighted to be one over all ranks' cells
            obj = obj + self._bce(logits, goal, self.obj_weight).mean() * (share * self.balance[i])
        box, obj, cls = box * self.box_gain, obj * self.obj_gain, cls * self.cls_gain
        total = (box + obj + cls) * (total_images * self.ranks.world_size)
        return total, {"box": box.detach(), "obj": obj.detach(), "cls": cls.detach()}

    def counts(self, images: int, targets: Tensor, maps: Sequence[Tensor]) -> list[float]:
        """Return the number of images of a batch and that of its targets' matches a level; of `maps` only the size counts."""
        return [images, *(len(m.cls) for m in self._assign(maps, targets))]

    def _assign(self, maps: Sequence[Tensor], targets: Tensor) -> list[Matches]:
        return [assign(targets, a, (m.shape[2], m.shape[3]), self.limit) for m, a in zip(maps, self.head.anchors, strict=True)]

    def _classes(self, logits: Tensor, cls: Tensor) -> Tensor:
        """Sum over matches of the mean BCE over classes; with one class there is nothing to tell apart."""
        if self.nc == 1:
            return logits.new_zeros(())
        goal = torch.full_like(logits, self.negative)
        goal.scatter_(1, cls[:, None], self.positive)
        return self._bce(logits, goal, self.cls_weight).sum() / self.nc

    def _bce(self, logits: Tensor, goal: Tensor, positive_weight: float) -> Tensor:
        """Element-wise binary cross-entropy, focal (Lin et al., ICCV 2017) where gamma is above 0."""
        weight = None if positive_weight == 1 else logits.new_tensor(positive_weight)
        loss = F.binary_cross_entropy_with_logits(logits, goal, reduction="none", pos_weight=weight)
        if self.gamma > 0:
            p = logits.sigmoid()
            missed = goal * (1 - p) + (1 - goal) * p
            alpha = goal * _FOCAL_ALPHA + (1 - goal) * (1 - _FOCAL_ALPHA)
            loss = loss * alpha * missed**self.gamma
        return loss


def _iou(rows: Tensor, match: Matches, anchors: Tensor) -> Tensor:
    """CIoU (M,) of the boxes that the raw rows (M, 5 + K) stand for, with their targets, in cells."""
    p = rows[:, :4].sigmoid()
    boxes = torch.cat((p[:, :2] * 2 - 0.5, (p[:, 2:] * 2).square() * anchors[match.anchor].to(p)), 1)
    return ciou(boxes, match.box.to(p))


def _raise_to(goal: Tensor, match: Matches, iou: Tensor) -> None:
    """Write `iou` into its cells of `goal` (B, A, ny, nx); of several matches of a cell the best counts, in whatever order."""
    _, A, ny, nx = goal.shape
    cell = ((match.image * A + match.anchor) * ny + match.row) * nx + match.column
    goal.view(-1).scatter_reduce_(0, cell, iou, "amax")


def _pick(raw: Tensor, match: Matches) -> tuple[Tensor, Tensor]:
    """Take the objectness of every cell, (B, A, ny, nx), and the whole rows of the matched cells, (M, 5 + K), in float32."""
    return _Pick.apply(raw, match.image, match.anchor, match.row, match.column)


class _Pick(torch.autograd.Function):
    """`raw[..., 4]` and `raw[image, anchor, row, column]` at once.

    Autograd's own backward would fill and add up two gradients of the size of the map, of which few cells are not zero.
    """

    @staticmethod
    def forward(ctx: Any, raw: Tensor, image: Tensor, anchor: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(image, anchor, row, column)
        ctx.like = torch.empty_like(raw, device="meta")
        ctx.device = raw.device
        objectness = raw[..., 4].to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return objectness, raw[image, anchor, row, column].float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        objectness, rows = grads
        grad = torch.empty_like(ctx.like, device=ctx.device).zero_()
        grad[..., 4] = objectness
        grad.index_put_(ctx.saved_tensors, rows.to(grad.dtype), accumulate=True)
        return grad, None, None, None, None
