"""Branches of their own for classes and boxes, as decoupled heads have them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.conv import Conv


class Tower(nn.Module):
    """A 1x1 convolution, then 3x3 ones for classes, and others for boxes and objectness (YOLOX; Ge et al., arXiv:2107.08430).

    Args:
        channels: input width.
        width: inner width.
        anchors: predictions per cell A.
        classes: number of classes K.
        depth: 3x3 convolutions of each branch.

    Shape:
        (B, channels, H, W) -> (B, A * (5 + K), H, W), for each anchor x, y, w, h, object, classes
    """

    def __init__(self, channels: int, width: int, anchors: int, classes: int, depth: int = 2) -> None:
        super().__init__()
        self.anchors = anchors
        self.stem = Conv(channels, width)
        self.cls_convs = nn.Sequential(*(Conv(width, width, 3) for _ in range(depth)))
        self.reg_convs = nn.Sequential(*(Conv(width, width, 3) for _ in range(depth)))
        self.cls_pred = nn.Conv2d(width, anchors * classes, 1)
        self.reg_pred = nn.Conv2d(width, anchors * 4, 1)
        self.obj_pred = nn.Conv2d(width, anchors, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        box = self.reg_convs(x)
        parts = (self.reg_pred(box), self.obj_pred(box), self.cls_pred(self.cls_convs(x)))
        by_anchor = zip(*(part.chunk(self.anchors, 1) for part in parts), strict=True)
        return torch.cat([part for anchor in by_anchor for part in anchor], 1)

    def biases(self) -> tuple[Tensor, Tensor]:
        """The biases of objectness and classes, to be changed in place."""
        assert self.obj_pred.bias is not None
        assert self.cls_pred.bias is not None
        return self.obj_pred.bias, self.cls_pred.bias
