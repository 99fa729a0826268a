"""AFPN: a pyramid that fuses its two finest levels first, then the coarser ones (Yang et al., SMC 2023, arXiv:2306.15988)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.adaptive_fusion import AdaptiveFusion
from models.layers.conv import Conv
from models.layers.fuse import pad_to_multiple
from models.necks.horfpn import level_widths
from models.registry import register

_COMPRESSED = 8


class LevelFusion(AdaptiveFusion):
    """`AdaptiveFusion` of AFPN: a finer level comes by a convolution of stride 2^d and kernel 2^d, a coarser one by a 1x1 and bilinearly.

    Args:
        channels: width of each level, finest first.
        level: index of the one to fuse to.

    Shape:
        list of (B, C_i, H_i, W_i) -> (B, C_level, H_level, W_level)
    """

    def __init__(self, channels: Sequence[int], level: int) -> None:
        width = channels[level]
        resize = [
            nn.Identity() if i == level else Conv(c, width, 2 ** (level - i), 2 ** (level - i), 0) if i < level else Conv(c, width)
            for i, c in enumerate(channels)
        ]
        super().__init__(level, resize, width, _COMPRESSED)

    def resized(self, x: Sequence[Tensor]) -> list[Tensor]:
        size, same = x[self.level].shape[2:], []
        for i, (level, resize) in enumerate(zip(x, self.resize, strict=True)):
            # Sides that the stride does not divide are padded, so that the sizes agree.
            level = pad_to_multiple(level, 2 ** max(self.level - i, 0))
            same.append(F.interpolate(resize(level), size, mode="bilinear", align_corners=False))
        return same


class _Residual(nn.Module):
    """Two 3x3 convolutions and a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(width, width, 3), Conv(width, width, 3, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.cv2(self.cv1(x)))


class _Stage(nn.Module):
    """Fuses levels, each to all sizes, then residual blocks."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.fuse_levels = nn.ModuleList(LevelFusion(widths, i) for i in range(len(widths)))
        self.blocks = nn.ModuleList(nn.Sequential(*(_Residual(width) for _ in range(blocks))) for width in widths)

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        return [blocks(fuse(x)) for fuse, blocks in zip(self.fuse_levels, self.blocks, strict=True)]


@register(level_widths, example=(16, 4, 1), inputs=(8, 16, 32))
class AFPN(nn.Module):
    """Asymptotic feature pyramid (arXiv:2306.15988, section 3): levels that are not neighbours meet only once both have been fused.

    A 1x1 reduces each level. The two finest are fused, each to both sizes; then these and the next, and so on; residual blocks follow each
    fusion. A 1x1 brings each level to `out`.

    Args:
        channels: widths of the levels, finest first, two or more.
        out: width of every output.
        reduction: C_i / inner width of a level; 8 in the paper.
        blocks: residual blocks after each fusion; 4 in the paper.

    Shape:
        list of (B, C_i, H_i, W_i), each about half the size of the one before -> list of (B, out, H_i, W_i)

    Raises:
        ValueError: a single level.
    """

    def __init__(self, channels: Sequence[int], out: int, reduction: int = 8, blocks: int = 4) -> None:
        super().__init__()
        positive(self, reduction=reduction, blocks=blocks)
        if len(channels) < 2:
            raise ValueError("AFPN: needs two levels or more, not one")
        inner = [max(c // reduction, 8) for c in channels]
        self.laterals = nn.ModuleList(Conv(c, width) for c, width in zip(channels, inner, strict=True))
        self.stages = nn.ModuleList(_Stage(inner[:count], blocks) for count in range(2, len(channels) + 1))
        self.outputs = nn.ModuleList(Conv(width, out) for width in inner)

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        maps = [lateral(level) for lateral, level in zip(self.laterals, x, strict=True)]
        fused = maps[:1]
        for stage, level in zip(self.stages, maps[1:], strict=True):
            fused = stage([*fused, level])
        return [output(level) for output, level in zip(self.outputs, fused, strict=True)]
