"""YOLOv5's detection head."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from models.heads.head import Head, as_levels
from models.registry import levels, register
from models.spec.anchors import parse_anchors


@register(levels, example=(3, ((10, 13, 16, 30), (30, 61, 62, 45))), inputs=(16, 32))
class Detect(Head):
    """One 1x1 convolution per level; boxes relative to anchors (YOLOv5).

    Args:
        channels: width of each level.
        classes: number of classes K.
        anchors: for each level w, h, w, h, ... in pixels; or their number per level, which gives squares of 4 * 2^(k / 3)
            strides until anchors are fitted to the data.

    Shape:
        list of (B, C_i, H_i, W_i) -> list of (B, A, H_i, W_i, 5 + K): x, y, w, h, object, classes, all before the sigmoid

    Attributes:
        anchors: (levels, A, 2) width and height in strides, in the state_dict.
        counted: whether the anchors were given as a number only.
    """

    criterion: ClassVar[str] = "anchors"
    anchors: Tensor

    def __init__(self, channels: Sequence[int], classes: int = 80, anchors: int | Sequence[Sequence[float]] = 3) -> None:
        super().__init__(len(channels), classes)
        anchors = parse_anchors(anchors, type(self).__name__)
        if not isinstance(anchors, int) and len(anchors) != len(channels):
            raise ValueError(f"reads {len(channels)} levels, but there are anchors for {len(anchors)}")
        self.counted = isinstance(anchors, int)
        if isinstance(anchors, int):
            anchors = [[4 * 2 ** (k / 3) for k in range(anchors) for _ in "wh"] for _ in channels]
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32).view(len(channels), -1, 2))
        self.m = self.predictors(channels, self.anchors.shape[1])

    def predictors(self, channels: Sequence[int], anchors: int) -> nn.ModuleList:
        """For each level what maps its width to A * (5 + K) channels."""
        return nn.ModuleList(nn.Conv2d(width, anchors * (self.classes + 5), 1) for width in channels)

    def forward(self, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
        return [self.arrange(conv(level)) for level, conv in zip(as_levels(x), self.m, strict=True)]

    def arrange(self, y: Tensor) -> Tensor:
        """(B, A * (5 + K), H, W) -> (B, A, H, W, 5 + K)."""
        B, _, H, W = y.shape
        return y.view(B, self.anchors.shape[1], self.classes + 5, H, W).permute(0, 1, 3, 4, 2)

    def decode_level(self, raw: Tensor, level: int) -> Tensor:
        return self._decode(raw, self.anchors[level], self.stride[level])

    @staticmethod
    def _decode(raw: Tensor, anchors: Tensor, stride: Tensor) -> Tensor:
        B, A, H, W, outputs = raw.shape
        p = raw.float().sigmoid()  # half precision cannot resolve single pixels
        y = torch.arange(H, device=raw.device, dtype=p.dtype).view(1, 1, H, 1, 1)
        x = torch.arange(W, device=raw.device, dtype=p.dtype).view(1, 1, 1, W, 1)
        cx = (p[..., 0:1] * 2 - 0.5 + x) * stride
        cy = (p[..., 1:2] * 2 - 0.5 + y) * stride
        sides = (p[..., 2:4] * 2).square() * (anchors * stride).view(1, A, 1, 1, 2)
        return torch.cat((cx, cy, sides, p[..., 4:]), -1).view(B, A * H * W, outputs)

    @torch.no_grad()
    def set_strides(self, strides: Sequence[float]) -> None:
        """Set the strides, divide the anchors by them and initialise the biases. Called once, after construction.

        Anchors of a larger area are assigned to levels of a larger stride, whatever the order in which they were given.
        """
        self.stride.copy_(torch.tensor(strides))
        if not self.counted:
            by_area = self.anchors.prod(-1).mean(-1).sort(stable=True).indices
            rank = self.stride.sort(stable=True).indices.sort().indices
            self.anchors.copy_(self.anchors[by_area[rank]] / self.stride.view(-1, 1, 1))
        self.init_bias()

    @torch.no_grad()
    def init_bias(self) -> None:
        """Initialise for about 8 objects per image of 640 pixels and equally likely classes (YOLOv5).

        With one class there is no class loss; its probability is about 1 from the start.
        """
        for conv, stride in zip(self.m, self.stride, strict=True):
            objectness, classes = self.biases(conv)
            objectness += torch.log(8 / (640 / stride) ** 2)
            classes += math.log(0.6 / (self.classes - 0.99999))

    def biases(self, predictor: nn.Module) -> tuple[Tensor, Tensor]:
        """The biases of a level's objectness and classes, to be changed in place."""
        assert isinstance(predictor, nn.Conv2d)
        assert predictor.bias is not None
        bias = predictor.bias.view(-1, self.classes + 5)
        return bias[:, 4], bias[:, 5:]

    @torch.no_grad()
    def set_anchors(self, pixels: Tensor) -> None:
        """Replace the anchors by (levels, A, 2) widths and heights in pixels, in the order of the levels."""
        self.anchors.copy_(pixels.to(self.anchors) / self.stride.view(-1, 1, 1))
        self.counted = False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        anchors = self.anchors
        super()._apply(fn, recurse)
        if self.anchors.dtype != anchors.dtype:  # .half() would change an anchor's size by up to 0.4 %
            self.anchors = anchors.to(self.anchors.device)
        return self
