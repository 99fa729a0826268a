"""Frequency channel attention (Qin et al., ICCV 2021, arXiv:2012.11879)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.arguments import multiple, positive
from models.attention.mixed_local import overlap
from models.registry import preserve, register

# Rows and columns of the 16 components that by themselves are best on ImageNet, on a 7x7 map, best first (the authors' "top16").
_TOP = ((0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0), (5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2))


def cosines(size: int, frequency: int) -> Tensor:
    """Values of an orthonormal cosine transform's component (DCT-II): (size,)."""
    wave = torch.cos(math.pi * frequency * (torch.arange(size) + 0.5) / size) / math.sqrt(size)
    return wave * math.sqrt(2) if frequency else wave


@register(preserve, example=(2,))
class FCA(nn.Module):
    """Frequency channel attention (arXiv:2012.11879, eq. 6-9): SE on cosine components of the map, of which the mean is the lowest.

    The channels fall into 16 parts, each with one of the paper's best components.

    Args:
        channels: width C of input and output.
        reduction: the bottleneck has C / reduction units, at least one.
        size: side that the map is averaged to before the transform, a multiple of 7; 56, 28, 14 and 7 in ResNet's stages.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: a size that is no multiple of 7.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, channels: int, reduction: int = 16, size: int = 7) -> None:
        super().__init__()
        positive(self, reduction=reduction)
        multiple(self, 7, size=size)
        self.size = size
        chosen = [_TOP[c * len(_TOP) // channels] for c in range(channels)]
        self.register_buffer("rows", torch.stack([cosines(size, u * size // 7) for u, _ in chosen]), persistent=False)
        self.register_buffer("columns", torch.stack([cosines(size, v * size // 7) for _, v in chosen]), persistent=False)
        hidden = max(channels // reduction, 1)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(inplace=True), nn.Linear(hidden, channels, bias=False), nn.Sigmoid()
        )

    def components(self, x: Tensor) -> Tensor:
        """Each channel's component: (B, C, H, W) -> (B, C)."""
        height, width, few = (torch.arange(n, device=x.device) for n in (*x.shape[2:], self.size))
        inside = overlap(height, few), overlap(width, few)
        rows, columns = (
            cosines.float() @ (part / part.sum(1, keepdim=True)) for cosines, part in zip((self.rows, self.columns), inside, strict=True)
        )
        # Averaging is linear: the cosines are spread over the map instead.
        return (x * (rows[:, :, None] * columns[:, None]).to(x.dtype)).sum((2, 3))

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, 1, 1)."""
        return self.fc(self.components(x))[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
