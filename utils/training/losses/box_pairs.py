"""Predicted boxes and their targets, with the geometry that box losses share.

Letters: M pairs. Every property is (M,) and differentiable; N of no pairs is fine.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import torch
from torch import Tensor

from utils.boxes import cxcywh_to_xyxy

EPS = 1e-7


@dataclasses.dataclass(frozen=True)
class Pairs:
    """M predicted boxes and the box that each of them should be.

    Attributes:
        pred: (M, 4) centre x, y, width, height, in any unit.
        target: (M, 4) in the same unit.
        pixels: pixels per unit; a number, or (M,).
        image: width and height of the image, in that unit.
    """

    pred: Tensor
    target: Tensor
    pixels: Tensor | float = 1.0
    image: tuple[float, float] = (1.0, 1.0)

    @cached_property
    def corners(self) -> tuple[Tensor, Tensor]:
        """Left, top, right, bottom of both: (M, 4) each."""
        return cxcywh_to_xyxy(self.pred), cxcywh_to_xyxy(self.target)

    @cached_property
    def intersection(self) -> Tensor:
        """Area that both cover."""
        p, t = self.corners
        return (torch.minimum(p[:, 2:], t[:, 2:]) - torch.maximum(p[:, :2], t[:, :2])).clamp(min=0).prod(1)

    @cached_property
    def union(self) -> Tensor:
        """Area that any covers."""
        return self.pred[:, 2:].prod(1) + self.target[:, 2:].prod(1) - self.intersection

    @cached_property
    def iou(self) -> Tensor:
        """Intersection over union."""
        return self.intersection / (self.union + EPS)

    @cached_property
    def hull(self) -> Tensor:
        """(M, 2) width and height of the smallest box around both."""
        p, t = self.corners
        return torch.maximum(p[:, 2:], t[:, 2:]) - torch.minimum(p[:, :2], t[:, :2])

    @cached_property
    def diagonal(self) -> Tensor:
        """Squared diagonal of the hull."""
        return self.hull.square().sum(1) + EPS

    @cached_property
    def shift(self) -> Tensor:
        """(M, 2) from the target's centre to the predicted one."""
        return self.pred[:, :2] - self.target[:, :2]

    @cached_property
    def growth(self) -> Tensor:
        """(M, 2) by how much the predicted sides exceed the target's."""
        return self.pred[:, 2:] - self.target[:, 2:]

    @cached_property
    def relative_growth(self) -> Tensor:
        """(M, 2) its size relative to the longer of the two sides, 0..1."""
        return self.growth.abs() / (torch.maximum(self.pred[:, 2:], self.target[:, 2:]) + EPS)

    def scaled(self, ratio: float) -> Pairs:
        """The pairs with all sides times `ratio` about their centres."""
        factor = self.pred.new_tensor([1, 1, ratio, ratio])
        return dataclasses.replace(self, pred=self.pred * factor, target=self.target * factor)
