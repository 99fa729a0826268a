"""The loss of heads with anchors: matched boxes, objectness of every cell, classes of matched cells.

Letters: B images, A anchors, K classes, M matches; a raw map is (B, A, ny, nx, 5 + K), as the head returns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from utils.config import Hyp
from utils.distributed import SINGLE, Ranks, sum_over_ranks
from utils.training.losses.assigners import Assignment, assign
from utils.training.losses.box_losses import parse_box_loss
from utils.training.losses.box_pairs import Pairs
from utils.training.losses.class_losses import ClassLoss

_BALANCE = {3: (4.0, 1.0, 0.4)}
_BALANCE_OTHER = (4.0, 1.0, 0.25, 0.06, 0.02)

Terms = dict[str, Tensor]


class AnchorHead(Protocol):
    """What the loss reads of a head with anchors."""

    anchors: Tensor
    """(levels, A, 2) in cells."""
    stride: Tensor
    """(levels,) pixels per cell."""


class DetectionLoss:
    """YOLOv5's loss, times the batch size.

    Args:
        head: the model's head; its anchors are read at each call, as they may move to another device.
        hyp: names of the losses, gains box, obj and cls (scaled here to levels, classes and image size), positive weights, fl_gamma,
            anchor_t.
        imgsz: side of the training images in pixels.
        nc: number of classes K.
        label_smoothing: epsilon; class targets become 1 - epsilon/2 and epsilon/2.
        ranks: the processes that share the global batch. Their counts of images and matches are summed, and the total is
            multiplied by their number, so that averaged gradients equal those of one process with the whole batch. The
            terms are this rank's share: they add up to the term over the ranks.
    """

    def __init__(self, head: AnchorHead, hyp: Hyp, imgsz: int, nc: int, *, label_smoothing: float = 0.0, ranks: Ranks = SINGLE) -> None:
        levels = len(head.anchors)
        self.head, self.nc, self.ranks = head, nc, ranks
        self.box_gain = hyp.box * 3 / levels
        self.obj_gain = hyp.obj * 3 / levels * (imgsz / 640) ** 2
        self.cls_gain = hyp.cls * 3 / levels * nc / 80
        self.box_loss, self.limit = parse_box_loss(hyp.box_loss), hyp.anchor_t
        self.obj_loss = ClassLoss(hyp.obj_loss, hyp.obj_pw, hyp.fl_gamma)
        self.cls_loss = ClassLoss(hyp.cls_loss, hyp.cls_pw, hyp.fl_gamma)
        self.positive, self.negative = 1 - label_smoothing / 2, label_smoothing / 2
        self.balance = _BALANCE.get(levels, (*_BALANCE_OTHER, *[_BALANCE_OTHER[-1]] * levels)[:levels])

    def __call__(self, maps: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, Terms]:
        """Return the scalar to run backward from, and the weighted terms "box", "obj", "cls", detached.

        Args:
            maps: one raw map per level.
            targets: (n, 6) image, class, then cx, cy, w, h in 0..1; n may be 0.
        """
        return self.total(maps, self.candidates(maps, targets))

    def candidates(self, maps: Sequence[Tensor], targets: Tensor, reach: float = 0.5) -> list[Assignment]:
        """Match targets to the cells and anchors of each level, see `assign`."""
        return [assign(targets, a, (m.shape[2], m.shape[3]), self.limit, reach) for m, a in zip(maps, self.head.anchors, strict=True)]

    def total(self, maps: Sequence[Tensor], matches: Sequence[Assignment]) -> tuple[Tensor, Terms]:
        """As the call, of the given matches for each level."""
        images = maps[0].shape[0]
        here = [images, *(len(m.cls) for m in matches)]
        total_images, *counts = sum_over_ranks(here, maps[0].device, self.ranks)
        box = cls = obj = maps[0].new_zeros((), dtype=torch.float32)
        for i, (raw, match, count) in enumerate(zip(maps, matches, counts, strict=True)):
            logits, matched = Gather.apply(raw, 4, match.image, match.anchor, match.row, match.column)
            target = torch.zeros_like(logits)
            if len(matched):
                decoded = self.decode(matched, match, i)
                size = (float(raw.shape[3]), float(raw.shape[2]))
                loss, iou = self.box_loss(Pairs(decoded, match.box.to(decoded), self.head.stride[i], size))
                box = box + loss.sum() / count
                cls = cls + self._classes(matched[:, 5:], match.cls, iou) / count
                _, anchors, ny, nx = target.shape
                cell = ((match.image * anchors + match.anchor) * ny + match.row) * nx + match.column
                target.view(-1).scatter_reduce_(0, cell, iou, "amax")  # of several matches of a cell the maximum, in any order
            share = images / total_images  # makes the mean over this rank's cells one over all ranks' cells
            obj = obj + self.obj_loss(logits, target).mean() * (share * self.balance[i])
        box, obj, cls = box * self.box_gain, obj * self.obj_gain, cls * self.cls_gain
        if torch.is_grad_enabled():
            self.box_loss.step(maps[0].device, self.ranks)
        total = (box + obj + cls) * (total_images * self.ranks.world_size)
        return total, {"box": box.detach(), "obj": obj.detach(), "cls": cls.detach()}

    def decode(self, matched: Tensor, match: Assignment, level: int) -> Tensor:
        """(M, 5 + K) raw predictions -> (M, 4) centre relative to the cell's corner, width and height; in cells."""
        p = matched[:, :4].sigmoid()
        wh = (p[:, 2:] * 2).square() * self.head.anchors[level][match.anchor].to(p)
        return torch.cat((p[:, :2] * 2 - 0.5, wh), 1)

    def _classes(self, logits: Tensor, cls: Tensor, iou: Tensor) -> Tensor:
        """Sum over matches of the mean class loss over classes; 0 with a single class."""
        if self.nc == 1:
            return logits.new_zeros(())
        target = torch.full_like(logits, self.negative)
        target.scatter_(1, cls[:, None], self.positive)
        return self.cls_loss(logits, target, iou[:, None]).sum() / self.nc


class Gather(torch.autograd.Function):
    """`raw[..., dense]`, such as the objectness of every cell, and `raw[index]`, the predictions of the matched cells, in float32.

    Autograd's own backward would fill and add two gradients of the size of the map that are zero almost everywhere.
    """

    @staticmethod
    def forward(ctx: Any, raw: Tensor, dense: int | slice, *index: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*index)
        ctx.like = torch.empty_like(raw, device="meta")
        ctx.device, ctx.dense = raw.device, dense
        every = raw[..., dense].to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return every, raw[index].float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        every, matched = grads
        grad = torch.empty_like(ctx.like, device=ctx.device).zero_()
        grad[..., ctx.dense] = every
        grad.index_put_(ctx.saved_tensors, matched.to(grad.dtype), accumulate=True)
        return (grad, None, *(None for _ in ctx.saved_tensors))
