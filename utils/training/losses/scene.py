"""What assigners for heads without anchors know: predictions and ground truth of a batch, padded to the same number of objects.

Letters: B images, N cells of all levels, M objects of the image with the most of them, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from utils.boxes import cxcywh_to_xyxy
from utils.geometry import iou


@dataclasses.dataclass(frozen=True)
class Scene:
    """Predictions and objects of a batch; all in pixels of the network's input.

    Attributes:
        points: (N, 2) centres of the cells.
        strides: (N,) of each cell's level, which is the only thing that tells levels apart.
        scores: (B, N, K) predicted probabilities.
        boxes: (B, N, 4) predicted xyxy.
        objects: (B, M, 4) xyxy.
        classes: (B, M) class indices.
        exists: (B, M) whether there is such an object; the rest is padding.
    """

    points: Tensor
    strides: Tensor
    scores: Tensor
    boxes: Tensor
    objects: Tensor
    classes: Tensor
    exists: Tensor

    @cached_property
    def ious(self) -> Tensor:
        """(B, M, N) IoU of each object and predicted box; 0 for padding."""
        return iou(self.objects[:, :, None], self.boxes[:, None]) * self.exists[..., None]

    @cached_property
    def offsets(self) -> Tensor:
        """(B, M, N, 2) from each object's centre to each cell's."""
        return self.points - (self.objects[..., None, :2] + self.objects[..., None, 2:]) / 2

    @cached_property
    def inside(self) -> Tensor:
        """(B, M, N) whether the cell's centre is inside the object.

        An object is taken as no smaller than a cell of the finest level, so that one has its centre inside each object.
        """
        half = ((self.objects[..., 2:] - self.objects[..., :2]) / 2).clamp(min=float(self.strides.min()) / 2)
        return both_below(self.offsets, half[..., None, :]) & self.exists[..., None]


@dataclasses.dataclass(frozen=True, slots=True)
class PointTargets:
    """What each cell predicts.

    Attributes:
        owner: (B, N) index of the object, -1 for background.
        quality: (B, N) in 0..1, how well it does so; 0 for background.
    """

    owner: Tensor
    quality: Tensor


Assigner = Callable[[Scene], PointTargets]


def both_below(offsets: Tensor, limit: Tensor) -> Tensor:
    """(..., 2), (..., 2) -> (...) whether both sizes are at most the limits; ``all`` over an axis of two is slow."""
    x, y = (offsets.abs() <= limit).unbind(-1)
    return x & y


def padded(targets: Tensor, images: int, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 6) image, class, cx, cy, w, h in 0..1 -> objects (B, M, 4) xyxy pixels, classes (B, M), exists (B, M); M >= 1.

    Args:
        targets: in any order of images; n may be 0.
        images: B.
        size: (2,) width and height of the images in pixels.
    """
    image, order = targets[:, 0].long().sort(stable=True)
    counts = torch.bincount(image, minlength=images)
    place = torch.arange(len(image), device=image.device) - (counts.cumsum(0) - counts)[image]
    most = max(int(counts.max()), 1)
    objects = targets.new_zeros(images, most, 4, dtype=torch.float32)
    classes, exists = image.new_zeros(images, most), torch.zeros(images, most, dtype=torch.bool, device=image.device)
    objects[image, place] = cxcywh_to_xyxy(targets[order, 2:6].float() * size.repeat(2))
    classes[image, place] = targets[order, 1].long()
    exists[image, place] = True
    return objects, classes, exists


def resolve(chosen: Tensor, preference: Tensor) -> Tensor:
    """Of the objects that chose a cell keep the one of largest preference: (B, M, N) bool, (B, M, N) -> (B, N) object, -1 for none."""
    images, objects, cells = chosen.shape
    image, number, cell = chosen.nonzero(as_tuple=True)  # few; an argmax over all objects takes a third of the assignment's time
    value, place = preference[image, number, cell], image * cells + cell
    best = preference.new_full((images * cells,), -torch.inf).scatter_reduce_(0, place, value, "amax")
    wins = value == best[place]
    owner = number.new_full((images * cells,), objects).scatter_reduce_(0, place[wins], number[wins], "amin")
    return torch.where(owner < objects, owner, -1).view(images, cells)


def at_owner(values: Tensor, owner: Tensor) -> Tensor:
    """(B, M, N) values of each object and cell -> (B, N) those of the assigned object, 0 for background."""
    return values.gather(1, owner.clamp(min=0)[:, None]).squeeze(1) * (owner >= 0)
