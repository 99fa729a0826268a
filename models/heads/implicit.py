"""Heads with implicit knowledge (YOLOR, YOLOv7): a learned shift before and factor after the convolution, folded into it for inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.heads.detect import Detect
from models.heads.head import as_levels
from models.registry import levels, register

_EXAMPLE = (3, ((10, 13, 16, 30), (30, 61, 62, 45)))


class ImplicitA(nn.Module):
    """x + a, a learned for each channel (YOLOR; Wang et al., arXiv:2105.04206): (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.implicit


class ImplicitM(nn.Module):
    """x * m, m learned for each channel (YOLOR): (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(1 + torch.randn(1, channels, 1, 1) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.implicit


@register(levels, example=_EXAMPLE, inputs=(16, 32))
class IDetect(Detect):
    """`Detect` with implicit knowledge; YOLOv7's names in the state_dict.

    Args:
        channels, classes, anchors: as in `Detect`.

    Shape:
        as `Detect`
    """

    def __init__(self, channels: Sequence[int], classes: int = 80, anchors: int | Sequence[Sequence[float]] = 3) -> None:
        super().__init__(channels, classes, anchors)
        self.ia = nn.ModuleList(ImplicitA(c) for c in channels)
        self.im = nn.ModuleList(ImplicitM(self.anchors.shape[1] * (classes + 5)) for _ in channels)

    def forward(self, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
        return [self.arrange(im(conv(ia(y)))) for y, ia, conv, im in zip(as_levels(x), self.ia, self.m, self.im, strict=True)]

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold m * (W (x + a) + b) into one convolution, in place."""
        for i, (conv, ia, im) in enumerate(zip(self.m, self.ia, self.im, strict=True)):
            if isinstance(conv, nn.Conv2d) and isinstance(ia, ImplicitA) and isinstance(im, ImplicitM):
                assert conv.bias is not None
                factor = im.implicit.view(-1)
                conv.bias.copy_((conv.bias + conv.weight.flatten(1) @ ia.implicit.view(-1)) * factor)
                conv.weight.mul_(factor.view(-1, 1, 1, 1))
                self.ia[i] = self.im[i] = nn.Identity()


@register(levels, example=_EXAMPLE, inputs=(16, 32, 24, 48))
class IAuxDetect(IDetect):
    """`IDetect` with auxiliary predictions for training (YOLOv7; Wang et al., CVPR 2023): twice as many levels, the second half auxiliary.

    Args:
        channels: width of each level, the auxiliary ones after the others and of the same strides.
        classes, anchors: as in `Detect`.

    Shape:
        list of 2 L levels -> training: list of 2 L maps as of `Detect`, the auxiliary ones last; evaluation: list of L maps
    """

    criterion: ClassVar[str] = "auxiliary"

    def __init__(self, channels: Sequence[int], classes: int = 80, anchors: int | Sequence[Sequence[float]] = 3) -> None:
        if len(channels) % 2:
            raise ValueError(f"IAuxDetect reads each level twice, the auxiliary ones last; {len(channels)} is odd")
        lead = len(channels) // 2
        super().__init__(channels[:lead], classes, anchors)
        self.m2 = self.predictors(channels[lead:], self.anchors.shape[1])

    def forward(self, x: Tensor | Sequence[Tensor]) -> list[Tensor]:
        lead = len(self.m)
        maps = super().forward(as_levels(x)[:lead])
        if self.training:
            maps += [self.arrange(conv(level)) for level, conv in zip(x[lead:], self.m2, strict=True)]
        return maps

    @torch.no_grad()
    def init_bias(self) -> None:
        """As `Detect`, the auxiliary predictions too."""
        super().init_bias()
        lead = self.m
        self.m = self.m2
        super().init_bias()
        self.m = lead

    def fuse(self) -> None:
        """Fold, and drop the auxiliary predictions."""
        super().fuse()
        self.m2 = nn.ModuleList()
