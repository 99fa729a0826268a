"""What box losses of the form 1 - IoU + penalties add. Each function maps `Pairs` to terms of (M,) that are 0 for equal boxes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from utils.training.losses.box_pairs import EPS, Pairs

Penalty = Callable[[Pairs], tuple[Tensor, ...]]

SHAPE_POWER = 4
"""Theta of SIoU and Shape-IoU: the papers' range is 2 to 6, both take 4."""


def none(pairs: Pairs) -> tuple[Tensor, ...]:  # noqa: ARG001
    """IoU (Yu et al., ACM MM 2016; in its linear form)."""
    return ()


def giou(pairs: Pairs) -> tuple[Tensor, ...]:
    """The share of the hull that neither box covers (Rezatofighi et al., CVPR 2019)."""
    hull = pairs.hull.prod(1) + EPS
    return ((hull - pairs.union) / hull,)


def diou(pairs: Pairs) -> tuple[Tensor, ...]:
    """Squared distance of the centres over the hull's squared diagonal (Zheng et al., AAAI 2020)."""
    return (pairs.shift.square().sum(1) / pairs.diagonal,)


def ciou(pairs: Pairs) -> tuple[Tensor, ...]:
    """`diou`, and the difference of the aspect ratios (Zheng et al., AAAI 2020); the weight of the latter has no gradient."""
    iou, distance = pairs.iou, diou(pairs)
    angles = [torch.atan(boxes[:, 2] / (boxes[:, 3] + EPS)) for boxes in (pairs.target, pairs.pred)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]).square()
    weight = v / (v - iou + 1 + EPS)
    return (*distance, weight.detach() * v)


def eiou(pairs: Pairs) -> tuple[Tensor, ...]:
    """`diou`, and the difference of widths and of heights relative to the hull's (Zhang et al., Neurocomputing 2022, arXiv:2101.08158)."""
    return (*diou(pairs), *(pairs.growth.square() / (pairs.hull.square() + EPS)).unbind(1))


def siou(pairs: Pairs) -> tuple[Tensor, ...]:
    """Distance, which counts less along the diagonals, and shape (Gevorgyan, arXiv:2205.12740).

    The angle cost 1 - 2 sin^2(arcsin(x) - pi/4) is sin(2 angle) = 2 |dx dy| / (dx^2 + dy^2), which has a gradient where the
    centres agree in x or y; arcsin and the root in the paper's form have none there.
    """
    square = pairs.shift.square()
    angle = 2 * pairs.shift.abs().prod(1) / (square.sum(1) + EPS)
    rho = square / (pairs.hull.square() + EPS)
    distance = (1 - torch.exp((angle - 2)[:, None] * rho)).sum(1)
    shape = (1 - torch.exp(-pairs.relative_growth)).pow(SHAPE_POWER).sum(1)
    return ((distance + shape) / 2,)


def mpdiou(pairs: Pairs) -> tuple[Tensor, ...]:
    """Squared distances of the corners over the image's squared diagonal (Ma & Xu, arXiv:2307.07662)."""
    p, t = pairs.corners
    square = (p - t).square() / (pairs.image[0] ** 2 + pairs.image[1] ** 2)
    return square[:, :2].sum(1), square[:, 2:].sum(1)


def shape_iou(pairs: Pairs) -> tuple[Tensor, ...]:
    """Distance and shape, weighted by the target's own sides with scale 1 (Zhang & Zhang, arXiv:2312.17663)."""
    target = pairs.target[:, 2:]
    across = (2 * target / (target.sum(1, keepdim=True) + EPS)).flip(1)  # x is weighted by the height, y by the width
    distance = (across * pairs.shift.square()).sum(1) / pairs.diagonal
    shape = (1 - torch.exp(-across * pairs.relative_growth)).pow(SHAPE_POWER).sum(1)
    return distance, shape / 2


PENALTIES: dict[str, Penalty] = {
    "iou": none,
    "giou": giou,
    "diou": diou,
    "ciou": ciou,
    "eiou": eiou,
    "siou": siou,
    "mpdiou": mpdiou,
    "shape-iou": shape_iou,
}
"""By the names that ``box_loss`` takes."""
