"""Dual attention (Fu et al., CVPR 2019, arXiv:1809.02983)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.norm import PooledBatchNorm
from models.layers.transformer import attention_weights
from models.registry import preserve, register


class _PositionAttention(nn.Module):
    """x + alpha * the values of all positions, weighted by a softmax over them (eq. 1-2); alpha starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query_conv = nn.Conv2d(channels, inner, 1)
        self.key_conv = nn.Conv2d(channels, inner, 1, bias=False)  # it would add the same to a query's logits, which softmax ignores
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def _tokens(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)[:, None]  # (B, 1, N, C)

    def attention(self, x: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        """Weights for the query in row and column `at`, or the mean over all queries: (B, 1, H, W), sum to 1."""
        query = None if at is None else at[0] * x.shape[3] + at[1]
        weights = attention_weights(self._tokens(self.query_conv(x)), self._tokens(self.key_conv(x)), query)
        return weights.unflatten(2, x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._tokens(conv(x)) for conv in (self.query_conv, self.key_conv, self.value_conv))
        y = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return x + self.gamma * y[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])


class _ChannelAttention(nn.Module):
    """x + beta * the other channels, weighted by a softmax over them (eq. 3-4); beta starts at 0.

    The authors' code takes the softmax of the row's maximum minus the energy, which weighs unlike channels most, against eq. 3. With
    eq. 3 a channel of a large map sees little but itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        tokens, pixels = x.flatten(2), x.shape[2] * x.shape[3]
        # The mean fits into half precision, where the sum over a large map does not.
        scaled = tokens * pixels**-0.5
        energy = scaled @ scaled.transpose(1, 2)  # (B, C, C)
        weights = (energy.float() * -pixels).softmax(2).to(tokens.dtype)
        return x + self.gamma * (weights @ tokens).unflatten(2, x.shape[2:])


def _conv(c1: int, c2: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c1, c2, 3, padding=1, bias=False), PooledBatchNorm(c2), nn.ReLU(inplace=True))


@register(preserve, example=(2,))
class DualAttention(nn.Module):
    """Dual attention, the head of DANet (arXiv:1809.02983, figure 2): attention over positions and over channels, added.

    Names of members and details are those of the authors' code, but for the bias of the keys, which has no effect.

    Args:
        channels: width C of input and output.
        reduction: both attentions work on C / reduction channels.
        dropout: probability of dropping a channel before the last convolution in training.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; time and, for the gradient, memory grow with (H * W)^2
    """

    def __init__(self, channels: int, reduction: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        positive(self, reduction=reduction)
        inner = max(channels // reduction, 1)
        self.conv5a, self.conv5c = _conv(channels, inner), _conv(channels, inner)
        self.sa, self.sc = _PositionAttention(inner), _ChannelAttention()
        self.conv51, self.conv52 = _conv(inner, inner), _conv(inner, inner)
        self.conv8 = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(inner, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        by_place = self.conv51(self.sa(self.conv5a(x)))
        return self.conv8(by_place + self.conv52(self.sc(self.conv5c(x))))
