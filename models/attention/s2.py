"""Spatial-shift MLP attention (Yu et al., 2021, arXiv:2108.01072)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.join import total
from models.layers.norm import ChannelNorm
from models.registry import preserve, register


def _moved(x: Tensor, dim: int, step: int) -> Tensor:
    """Move (B, C, H, W) by one pixel along `dim`, forward or backward; the border's pixels stay as well."""
    length = x.shape[dim]
    if step > 0:
        return torch.cat((x.narrow(dim, 0, 1), x.narrow(dim, 0, length - 1)), dim)
    return torch.cat((x.narrow(dim, 1, length - 1), x.narrow(dim, length - 1, 1)), dim)


def shifted(x: Tensor, dims: tuple[int, int]) -> Tensor:
    """Move the quarters of the channels by one pixel: forward and backward along the first dim, then along the second.

    Copies in circulation write into the tensor they read.
    """
    a, b, c, d = x.tensor_split(4, 1)
    return torch.cat((_moved(a, dims[0], 1), _moved(b, dims[0], -1), _moved(c, dims[1], 1), _moved(d, dims[1], -1)), 1)


class _SplitAttention(nn.Module):
    """Weigh K maps, for each channel, by a softmax over the maps that their summed means give (arXiv:2108.01072, eq. 8-11)."""

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        self.maps = maps
        self.mlp1 = nn.Linear(channels, channels, bias=False)
        self.mlp2 = nn.Linear(channels, maps * channels, bias=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        described = total(m.mean((2, 3)) for m in maps)  # (B, C)
        share = self.mlp2(F.gelu(self.mlp1(described))).unflatten(1, (self.maps, -1)).softmax(1)
        return total(m * s[:, :, None, None].to(m.dtype) for m, s in zip(maps, share.unbind(1), strict=True))


@register(preserve)
class S2Attention(nn.Module):
    """Token mixing of an S2-MLPv2 block (arXiv:2108.01072, section 3): norm, two shifted copies and a plain one, split attention, residual.

    Args:
        channels: width C of input and output, at least 4.
        residual: norm before and the input added after, as in the paper's block; off leaves the mixing alone.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: a width below 4.
    """

    def __init__(self, channels: int, residual: bool = True) -> None:
        super().__init__()
        if channels < 4:
            raise ValueError(f"S2Attention: needs 4 channels or more, one for each direction, not {channels}")
        self.norm = ChannelNorm(channels) if residual else None
        self.mlp1 = nn.Conv2d(channels, 3 * channels, 1)
        self.split_attention = _SplitAttention(channels, 3)
        self.mlp2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = self.mlp1(x if self.norm is None else self.norm(x)).chunk(3, 1)
        y = self.mlp2(self.split_attention([shifted(a, (2, 3)), shifted(b, (3, 2)), c]))
        return y if self.norm is None else x + y
