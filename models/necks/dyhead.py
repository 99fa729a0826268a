"""Dynamic head: attention to levels, places and channels, in blocks in front of a detection head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.deformable import TapMoves, deformable_conv
from models.layers.norm import GroupNorm
from models.necks.horfpn import level_widths
from models.registry import register


class DynamicReLU(nn.Module):
    """max(a1 x + b1, a2 x + b2) with factors of each channel that depend on the image (Chen et al., ECCV 2020, arXiv:2003.10027, eq. 3).

    Their pooled map gives 1 + r, r', r'' / 2 and r''' / 2 for a1, a2, b1 and b2, each r from -1 to 1.

    Args:
        channels: width C of input and output.
        reduction: C / inner width.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        inner = max(channels // reduction, 4)
        self.fc = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, 4 * channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        a1, b1, a2, b2 = (F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True))) * 2 - 1).chunk(4, 1)
        return torch.maximum(x * (1 + a1) + b1 / 2, x * a2 + b2 / 2)


class _NormedConv(nn.Module):
    """The weights of a deformable 3x3, and the group norm after it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3)
        self.norm = GroupNorm(next(n for n in (16, 8, 4, 2, 1) if channels % n == 0), channels)

    def forward(self, x: Tensor, offsets: Tensor, modulation: Tensor, stride: int = 1) -> Tensor:
        return self.norm(deformable_conv(x, self.conv, offsets, modulation, stride))


class DyHeadBlock(nn.Module):
    """One block of the dynamic head (Dai et al., CVPR 2021, arXiv:2106.08322, eq. 2-5).

    As in the authors' code, which their figures are of, a level sees itself and its two neighbours (the paper's formula: all levels),
    resized to it, its pixels' offsets are shared by the three, and hard sigmoids have a slope of 1/6 (the paper's formula: 1/2).

    Args:
        channels: width C of every level.

    Shape:
        list of two or more (B, C, H_i, W_i), finest first, each half the size of the one before -> the same shapes
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = TapMoves(channels)
        self.finer, self.own, self.coarser = (_NormedConv(channels) for _ in range(3))
        self.level = nn.Conv2d(channels, 1, 1)
        self.task = DynamicReLU(channels)

    def _weighted(self, x: Tensor) -> Tensor:
        """A map times the share that its mean gives it: scale-aware attention."""
        return x * F.hardsigmoid(F.relu(self.level(x.mean((2, 3), keepdim=True))))

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        for i, here in enumerate(x):
            moves = self.offset.moves(here)
            seen = [self._weighted(self.own(here, *moves))]
            if i:
                seen.append(self._weighted(self.finer(x[i - 1], *moves, stride=2)))
            if i + 1 < len(x):
                resized = F.interpolate(x[i + 1], here.shape[2:], mode="bilinear", align_corners=False)
                seen.append(self._weighted(self.coarser(resized, *moves)))
            outputs.append(self.task(torch.stack(seen, 1).mean(1)))
        return outputs


@register(level_widths, example=(16,), inputs=(8, 16, 32))
class DyHead(nn.Module):
    """Blocks of the dynamic head in front of any detection head (Dai et al., CVPR 2021, arXiv:2106.08322); see `DyHeadBlock`.

    Seven deformable convolutions a block of three levels take several times a 3x3 convolution's time; that is the paper's design.

    Args:
        channels: widths of the levels, finest first, two or more; a 1x1 convolution brings each to `out`.
        out: width of every output.
        blocks: number of blocks; the paper has 6 at a width of 256.

    Shape:
        list of (B, C_i, H_i, W_i), each about half the size of the one before -> list of (B, out, H_i, W_i)

    Raises:
        ValueError: a single level.
    """

    def __init__(self, channels: Sequence[int], out: int, blocks: int = 1) -> None:
        super().__init__()
        positive(self, blocks=blocks)
        if len(channels) < 2:
            raise ValueError("DyHead: attends to two levels or more, not to one")
        self.laterals = nn.ModuleList(nn.Conv2d(width, out, 1) for width in channels)
        self.blocks = nn.Sequential(*(DyHeadBlock(out) for _ in range(blocks)))

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        return self.blocks([lateral(level) for lateral, level in zip(self.laterals, x, strict=True)])
