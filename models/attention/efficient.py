"""Efficient multi-head self-attention of ResT (Zhang & Yang, NeurIPS 2021, arXiv:2105.13677)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.attention.heads import heads_for
from models.layers.norm import ChannelNorm
from models.registry import preserve, register


@register(preserve, example=(2, 2))
class EMSA(nn.Module):
    """Efficient multi-head self-attention (arXiv:2105.13677, eq. 2-4): keys from a smaller map, heads mixed before the softmax.

    A depthwise convolution shrinks the map that keys and values come from; a 1x1 convolution over the heads mixes their logits; the
    weights of each head are normalised as an instance after the softmax. The input is added, as in the paper's block.

    Args:
        channels: width C of input and output.
        heads: number of heads; None gives each 64 channels, as in the paper, or the next number that divides.
        shrink: by how much, on either side, the keys' map is smaller.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; memory grows with (H * W)^2 / shrink^2

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, channels: int, heads: int | None = None, shrink: int = 2) -> None:
        super().__init__()
        positive(self, shrink=shrink)
        heads = heads_for(self, channels, heads, 64)
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.sr = nn.Conv2d(channels, channels, shrink + 1, shrink, (shrink + 1) // 2, groups=channels)
        self.sr_norm = ChannelNorm(channels)
        self.kv = nn.Conv2d(channels, 2 * channels, 1)
        self.mix = nn.Conv2d(heads, heads, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def _headed(self, x: Tensor) -> Tensor:
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)  # (B, heads, N, d)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q = self._headed(self.q(y))
        k, v = (self._headed(t) for t in self.kv(self.sr_norm(self.sr(y))).chunk(2, 1))
        logits = self.mix(q * q.shape[3] ** -0.5 @ k.transpose(2, 3))
        # An instance norm of each head; unlike PyTorch's it takes a single weight too.
        weights = torch.group_norm(logits.softmax(3), self.heads, eps=1e-5)
        return x + self.proj((weights.to(v.dtype) @ v).transpose(2, 3).reshape(x.shape))
