"""MUSE: self-attention, convolutions and a feed-forward layer side by side (Zhao et al., arXiv:1911.09483)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.arguments import odd, positive
from models.attention.heads import attend, heads_for
from models.layers.join import total
from models.layers.norm import ChannelNorm
from models.registry import preserve, register


@register(preserve, example=(2,))
class MUSE(nn.Module):
    """Parallel multi-scale attention (arXiv:1911.09483, eq. 1-7), with convolutions of two dimensions for the paper's one.

    n = norm(x), v = n W_v; y = x + attention(n, v) W_o + sum of softmax(g)_i * depthwise_i(v) W_c + relu(n W_1) W_2. Attention and
    convolutions share the projection v.

    Projections, the MLP and three depthwise convolutions, and the N x N logits of each head: above 2x a 3x3 convolution's time.

    Args:
        channels: width C of input and output.
        heads: of the attention; None: as many as give each 32 channels, if they divide the width.
        kernels: sides of the depthwise convolutions, odd.
        ratio: inner width of the feed-forward layer / C.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the width, or an even kernel.
    """

    def __init__(self, channels: int, heads: int | None = None, kernels: Sequence[int] = (1, 3, 5), ratio: int = 2) -> None:
        super().__init__()
        positive(self, ratio=ratio)
        for kernel in kernels:
            odd(self, kernel=kernel)
        self.heads = heads_for(self, channels, heads)
        self.norm = ChannelNorm(channels)
        self.qkv, self.proj_attention, self.proj_conv = (nn.Conv2d(channels, out, 1) for out in (3 * channels, channels, channels))
        self.depthwise = nn.ModuleList(nn.Conv2d(channels, channels, k, padding=k // 2, groups=channels) for k in kernels)
        self.kernel_gate = nn.Parameter(torch.ones(len(kernels)))
        self.feed_forward = nn.Sequential(nn.Conv2d(channels, ratio * channels, 1), nn.ReLU(), nn.Conv2d(ratio * channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        q, k, v = self.qkv(n).chunk(3, 1)
        attended = attend(q, k, v, self.heads)
        convolved = total(conv(v) * share for conv, share in zip(self.depthwise, self.kernel_gate.softmax(0), strict=True))
        return x + self.proj_attention(attended) + self.proj_conv(convolved) + self.feed_forward(n)
