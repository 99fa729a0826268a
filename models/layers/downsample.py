"""Halving a map without losing values, or by two ways at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.layers.conv import Conv
from models.layers.fuse import pad_to_multiple
from models.layers.join import join
from models.layers.pool import MP
from models.registry import LayerPlan, Row, Scale, Width, only, project, register


def _four_times(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001
    return LayerPlan(row.args, 4 * only(row, inputs))


def _phases(x: Tensor) -> list[Tensor]:
    """The four sub-samplings of a map of even sides: columns fastest last, as `Focus` has them."""
    return [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]


@register(_four_times, name="space_to_depth", example=(1,))
class SpaceToDepth(nn.Module):
    """Four sub-samplings side by side, for a convolution of stride 1: SPD-Conv (Sunkara & Luo, ECML 2022, arXiv:2208.03641).

    Args:
        dimension: 1, the channels.

    Shape:
        (B, C, H, W) -> (B, 4C, ceil(H / 2), ceil(W / 2))
    """

    def __init__(self, dimension: Literal[1] = 1) -> None:
        super().__init__()
        if dimension != 1:
            raise ValueError(f"space_to_depth: dimension must be 1, the channels, not {dimension}")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(_phases(pad_to_multiple(x, 2)), 1)


@register(_four_times)
class ReOrg(SpaceToDepth):
    """`space_to_depth`, of YOLOR (Wang et al., arXiv:2105.04206).

    Shape:
        (B, C, H, W) -> (B, 4C, ceil(H / 2), ceil(W / 2))
    """

    def __init__(self) -> None:
        super().__init__()


@register(_four_times)
class DWT(nn.Module):
    """One level of the Haar wavelet transform (Mallat, 1989), scaled as in YOLOR so that values between 0 and 1 stay there.

    For pixels a b over c d: the means (a + b + c + d) / 4 of all channels, then of each channel 1/2 + (a + b - c - d) / 4,
    1/2 + (a - b + c - d) / 4 and 1/2 + (a - b - c + d) / 4.

    Shape:
        (B, C, H, W) -> (B, 4C, ceil(H / 2), ceil(W / 2)), zeros beyond an odd border
    """

    def forward(self, x: Tensor) -> Tensor:
        a, c, b, d = _phases(pad_to_multiple(x, 2) / 4)
        top, bottom, left, right = a + b, c + d, a - b, c - d
        details = torch.stack((top - bottom, left + right, left - right), 2) + 0.5
        return torch.cat((top + bottom, details.flatten(1, 2)), 1)


@register(project, example=(48,))
class DownC(nn.Module):
    """Half of the output by a convolution of stride k, half by a max-pool and a 1x1 (YOLOR, arXiv:2105.04206).

    Args:
        c1: input width.
        c2: output width.
        k: stride.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / k), ceil(W / k))
    """

    def __init__(self, c1: int, c2: int, k: int = 2) -> None:
        super().__init__()
        positive(self, c2=c2 // 2)
        self.cv1 = nn.Sequential(Conv(c1, c1), Conv(c1, c2 // 2, 3, k))
        self.cv2 = nn.Sequential(MP(k), Conv(c1, c2 - c2 // 2))

    def forward(self, x: Tensor) -> Tensor:
        return join(self.cv1(x), self.cv2(x))


@register(project, example=(48,))
class Stem(nn.Module):
    """PeleeNet's first layers (Wang et al., NeurIPS 2018, arXiv:1804.06882): a 3x3 of stride 2, another beside a max-pool, a 1x1.

    Args:
        c1: input width.
        c2: output width; the layers inside have half of it.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / 4), ceil(W / 4))
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        inner = c2 // 2
        positive(self, c2=inner)
        self.cv1 = Conv(c1, inner, 3, 2)
        self.cv2 = nn.Sequential(Conv(inner, inner), Conv(inner, inner, 3, 2))
        self.pool = MP()
        self.cv3 = Conv(2 * inner, c2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv3(join(self.cv2(x), self.pool(x)))
