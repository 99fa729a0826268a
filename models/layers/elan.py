"""YOLOv7's layer aggregation, and the same with Wave-MLP inside."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import Conv, batch_norm, fold_before
from models.layers.join import join
from models.registry import register, stack


@register(stack, aliases=("RTRM", "XCRS", "ETVR"), example=(48,))
class ELAN(nn.Module):
    """YOLOv7's efficient layer aggregation (Wang et al., CVPR 2023, arXiv:2207.02696, figure 2c): a chain of units, all joined.

    YOLOAir's YAML files name RTRM, XCRS and ETVR, which neither its code nor a paper defines; they stand where ELAN or C3 does in the
    models that they were made from, and are this block here.

    Args:
        c1: input width.
        c2: output width.
        n: units of the chain, and one more: two in YOLOv7.
        e: inner width as a share of c2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.25) -> None:
        super().__init__()
        inner = int(c2 * e)
        positive(self, inner=inner)
        self.cv1 = Conv(c1, inner)
        self.cv2 = Conv(c1, inner)
        self.units = nn.ModuleList(self.unit(inner) for _ in range(n + 1))
        self.cv3 = Conv((n + 3) * inner, c2)

    def unit(self, width: int) -> nn.Module:
        """A link of the chain, (B, width, H, W) -> the same; what subclasses change."""
        return nn.Sequential(Conv(width, width, 3), Conv(width, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.cv1(x), self.cv2(x)]
        for unit in self.units:
            kept.append(unit(kept[-1]))
        return self.cv3(join(*reversed(kept)))


class PhaseMixing(nn.Module):
    """Phase-aware token mixing (Tang et al., CVPR 2022, arXiv:2111.12294, eq. 8 to 10, figure 2).

    A token is a wave: its amplitude is a projection, its phase another. Rows and columns are mixed by depthwise convolutions of real and
    imaginary part, a third branch by a 1x1; a softmax over the three weighs them per channel.

    Args:
        channels: width C of input and output.
        k: length of the depthwise convolutions.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, k: int = 7) -> None:
        super().__init__()
        inner = max(channels // 4, 1)
        self.amplitude = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(2))
        self.phase = nn.ModuleList(nn.Sequential(nn.Conv2d(channels, channels, 1), batch_norm(channels), nn.ReLU()) for _ in range(2))
        sides = ((1, k), (k, 1))
        self.mix = nn.ModuleList(
            nn.Conv2d(2 * channels, channels, side, padding=(side[0] // 2, side[1] // 2), groups=channels, bias=False) for side in sides
        )
        self.channel = nn.Conv2d(channels, channels, 1, bias=False)
        self.weigh = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.GELU(), nn.Conv2d(inner, 3 * channels, 1))
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.channel(x)]
        for amplitude, phase, mix in zip(self.amplitude, self.phase, self.mix, strict=True):
            a, theta = amplitude(x), phase(x)
            # Real and imaginary part of a channel side by side, so that each group of the convolution has both.
            branches.append(mix(torch.stack((a * theta.cos(), a * theta.sin()), 2).flatten(1, 2)))
        pooled = sum(branches[1:], branches[0]).mean((2, 3), keepdim=True)
        weights = self.weigh(pooled).unflatten(1, (-1, 3)).softmax(2)  # (B, C, 3, 1, 1)
        return self.project(sum((b * weights[:, :, i] for i, b in enumerate(branches)), torch.zeros_like(x)))


class WaveBlock(nn.Module):
    """Wave-MLP's block: phase-aware token mixing and an MLP of four times the width, each with a batch norm and a residual.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1: nn.Module = batch_norm(channels)
        self.mixing = PhaseMixing(channels)
        self.norm2: nn.Module = batch_norm(channels)
        self.fc1 = nn.Conv2d(channels, 4 * channels, 1)
        self.fc2 = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixing(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def fuse(self) -> None:
        """Fold the batch norms into the 1x1 convolutions that read them."""
        if isinstance(self.norm1, nn.BatchNorm2d) and isinstance(self.norm2, nn.BatchNorm2d):
            readers = (self.mixing.channel, self.mixing.amplitude, self.mixing.phase)
            fold_before(self.norm1, *(m for part in readers for m in part.modules() if isinstance(m, nn.Conv2d)))
            fold_before(self.norm2, self.fc1)
            self.norm1 = self.norm2 = nn.Identity()


@register(stack, example=(48,))
class WaveLAN(ELAN):
    """`ELAN` with Wave-MLP's block for a unit (Tang et al., CVPR 2022, arXiv:2111.12294).

    YOLOAir's YAML files name it, but neither its code nor a paper defines it; they have it in place of C3, among their MLP models.

    Args:
        c1, c2, n, e: as in `ELAN`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def unit(self, width: int) -> nn.Module:
        return WaveBlock(width)
