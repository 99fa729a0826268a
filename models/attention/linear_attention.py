"""Attention without a matrix of all pairs: UFO-ViT's and the attention-free transformer's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd
from models.attention.heads import heads_for
from models.registry import preserve, register


@register(preserve, example=(2,))
class UFOAttention(nn.Module):
    """Unit-force-operated attention (Song, arXiv:2109.14382, eq. 5-6): no softmax, and the key meets the value first.

    y = X(q) X(k^T v) in each head, X(a) = gamma * a / |a| along the head's width; linear in the number of pixels.

    Args:
        channels: width C of input and output.
        heads: as in `MUSE`.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, channels: int, heads: int | None = None) -> None:
        super().__init__()
        self.heads = heads_for(self, channels, heads)
        self.qkv, self.proj = nn.Conv2d(channels, 3 * channels, 1, bias=False), nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.ones(self.heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.flatten(2).unflatten(1, (self.heads, -1)) for t in self.qkv(x).chunk(3, 1))  # (B, heads, d, N) each
        context = F.normalize(k @ v.transpose(2, 3), dim=3) * self.gamma
        y = context.transpose(2, 3) @ (F.normalize(q, dim=2) * self.gamma)  # (B, heads, d, N): no copy makes it maps again
        return self.proj(y.reshape(x.shape))


@register(preserve, example=(2, 3))
class AFT(nn.Module):
    """Attention-free transformer with convolutional biases, AFT-conv (Zhai et al., arXiv:2105.14103, eq. 2 and 5).

    y = sigmoid(q) * sum of exp(k + w) v / sum of exp(k + w), over all pixels, where w is a head's bias for a pixel's offset inside a
    window, and 0 outside. A head's biases are normalised, times a gain, plus a bias that both start at 0.

    Args:
        channels: width C of input and output.
        heads: as in `MUSE`.
        kernel_size: side of the window, odd; 11 in the paper.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the width, or an even side.
    """

    def __init__(self, channels: int, heads: int | None = None, kernel_size: int = 7) -> None:
        super().__init__()
        odd(self, kernel_size=kernel_size)
        self.heads = heads_for(self, channels, heads)
        self.qkv, self.proj = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        self.rel = nn.Parameter(torch.randn(self.heads, 1, kernel_size, kernel_size))
        self.gain_scale, self.gain_bias = (nn.Parameter(torch.zeros(self.heads, 1, 1, 1)) for _ in range(2))

    def _kernel(self) -> Tensor:
        """exp(w) - 1 of each head, (heads, 1, side, side)."""
        std, mean = torch.std_mean(self.rel, dim=(2, 3), keepdim=True, correction=0)
        return torch.expm1(self.gain_scale * (self.rel - mean) / (std + 1e-6) + self.gain_bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, 1)
        weights = (k - k.detach().amax((2, 3), keepdim=True)).exp()  # the factor cancels, and its gradient with it
        kernel = self._kernel().repeat_interleave(x.shape[1] // self.heads, 0)
        sums = [
            F.conv2d(m, kernel.to(m.dtype), padding=kernel.shape[2] // 2, groups=m.shape[1]) + m.sum((2, 3), keepdim=True)
            for m in (weights * v, weights)
        ]
        return self.proj(q.sigmoid() * sums[0] / sums[1])
