"""Boxes as tensors: a conversion and CIoU. Every function returns new tensors; N may be 0."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) centre x, centre y, width, height -> (..., 4) left, top, right, bottom, in the same unit."""
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    return torch.cat((centre - half, centre + half), -1)


def ciou(pred: Tensor, target: Tensor, eps: float = 1e-7) -> Tensor:
    """Complete IoU of matching cxcywh boxes (Zheng et al., AAAI 2020, eq. 10-12): (N, 4), (N, 4) -> (N,)."""
    p, t = cxcywh_to_xyxy(pred), cxcywh_to_xyxy(target)
    inter = (torch.minimum(p[:, 2:], t[:, 2:]) - torch.maximum(p[:, :2], t[:, :2])).clamp(min=0).prod(1)
    union = pred[:, 2:].prod(1) + target[:, 2:].prod(1) - inter + eps
    iou = inter / union
    hull = torch.maximum(p[:, 2:], t[:, 2:]) - torch.minimum(p[:, :2], t[:, :2])
    distance = (pred[:, :2] - target[:, :2]).square().sum(1) / (hull.square().sum(1) + eps)
    angle = torch.atan(target[:, 2] / (target[:, 3] + eps)) - torch.atan(pred[:, 2] / (pred[:, 3] + eps))
    v = 4 / math.pi**2 * angle.square()
    with torch.no_grad():
        alpha = v / (v - iou + 1 + eps)
    return iou - distance - alpha * v
