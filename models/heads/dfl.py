"""The anchor-free head without objectness whose box sides are distributions (YOLOv8, YOLO11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.heads.head import Head, as_levels, cell_centres
from models.layers.conv import Conv, DWConv
from models.registry import levels, register


class Integral(nn.Module):
    """Expected value of distributions over 0 .. bins - 1 (Generalized Focal Loss; Li et al., NeurIPS 2020).

    Shape:
        (..., 4 * bins) logits -> (..., 4), for the last axis being left, top, right, bottom times bins
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.conv = nn.Module()  # YOLOv8's name of the constants in a state_dict is dfl.conv.weight
        self.conv.register_buffer("weight", torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(self.bins, device=x.device, dtype=torch.float32)
        sides = x.float().reshape(*x.shape[:-1], 4, self.bins)  # ONNX's tracer takes the sizes behind unflatten for constant
        return sides.softmax(-1) @ steps


@register(levels, example=(3,), inputs=(16, 32))
class DetectDFL(Head):
    """Boxes as distances from the cell's centre to the four sides, each the mean of a distribution; classes in a branch of their own.

    YOLOv8's form, with its names and widths, so that its state_dict fits.

    Args:
        channels: width of each level.
        classes: number of classes K.
        reg_max: bins of a distribution R; distances reach R - 1 cells.
        light: depthwise convolutions in the class branch (YOLO11).

    Shape:
        list of (B, C_i, H_i, W_i) -> list of (B, 4 R + K, H_i, W_i): logits of left, top, right and bottom, then of the classes
    """

    criterion: ClassVar[str] = "distribution"

    def __init__(self, channels: Sequence[int], classes: int = 80, reg_max: int = 16, light: bool = False) -> None:
        super().__init__(len(channels), classes)
        if reg_max < 2:
            raise ValueError(f"reg_max must be at least 2, not {reg_max}")
        self.reg_max = reg_max
        box, cls = max(16, channels[0] // 4, 4 * reg_max), max(channels[0], min(classes, 100))
        self.cv2 = nn.ModuleList(nn.Sequential(Conv(c, box, 3), Conv(box, box, 3), nn.Conv2d(box, 4 * reg_max, 1)) for c in channels)
        self.cv3 = nn.ModuleList(
            nn.Sequential(*self._inner(c, cls, light), *self._inner(cls, cls, light), nn.Conv2d(cls, classes, 1)) for c in channels
        )
        self.dfl = Integral(reg_max)

    @staticmethod
    def _inner(c1: int, c2: int, light: bool) -> list[nn.Module]:
        return [nn.Sequential(DWConv(c1, c1, 3), Conv(c1, c2, 1))] if light else [Conv(c1, c2, 3)]

    def forward(self, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
        return [torch.cat((box(y), cls(y)), 1) for y, box, cls in zip(as_levels(x), self.cv2, self.cv3, strict=True)]

    def boxes(self, raw: Tensor, cells: Tensor, stride: Tensor) -> Tensor:
        """(..., 4 R + K) raw predictions, (..., 2) centres of their cells in cells, pixels per cell -> (..., 4) cx, cy, w, h in pixels."""
        before, after = self.dfl(raw[..., : 4 * self.reg_max]).split(2, -1)  # left and top, right and bottom
        return torch.cat((cells + (after - before) / 2, before + after), -1) * stride

    def decode_level(self, raw: Tensor, level: int) -> Tensor:
        H, W = raw.shape[2:]
        flat = raw.flatten(2).transpose(1, 2)
        boxes = self.boxes(flat, cell_centres(raw, H, W).flatten(0, 1), self.stride[level])
        classes = flat[..., 4 * self.reg_max :].float().sigmoid()
        return torch.cat((boxes, torch.ones_like(boxes[..., :1]), classes), 2)

    @torch.no_grad()
    def init_bias(self) -> None:
        """Initialise for flat distributions and about 5 objects per image of 640 pixels (YOLOv8)."""
        for box, cls, stride in zip(self.cv2, self.cv3, self.stride, strict=True):
            for branch, value in ((box, torch.ones(())), (cls, torch.log(5 / self.classes / (640 / stride) ** 2))):
                assert isinstance(branch, nn.Sequential)
                last = branch[-1]
                assert isinstance(last, nn.Conv2d)
                assert last.bias is not None
                last.bias.copy_(value.expand_as(last.bias))
