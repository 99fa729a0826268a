"""The transformer inside C3TR."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.conv import Conv


def attention_weights(q: Tensor, k: Tensor, query: int | None, bias: Tensor | None = None) -> Tensor:
    """Attention weights of the keys for one query, or the mean over all queries.

    Args:
        q: (B, heads, Q, d), scaled.
        k: (B, heads, N, d).
        query: index of the query; None takes the mean over all.
        bias: broadcastable to (B, heads, Q, N), added to the logits.

    Returns:
        (B, heads, N), sums to 1 over N.
    """
    chosen = slice(None) if query is None else slice(query, query + 1)
    logits = q[:, :, chosen] @ k.transpose(2, 3)
    return (logits if bias is None else logits + bias[:, :, chosen]).softmax(3).mean(2)


class TransformerLayer(nn.Module):
    """Self-attention and two linear layers, each with a residual, without layer norms (YOLOv5).

    Args:
        channels: width C.
        heads: number of attention heads; reduced to gcd(C, heads).

    Shape:
        (B, N, C) -> (B, N, C), any N >= 1
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(channels, channels, bias=False)
        self.v = nn.Linear(channels, channels, bias=False)
        self.ma = nn.MultiheadAttention(channels, math.gcd(channels, heads))
        self.fc1 = nn.Linear(channels, channels, bias=False)
        self.fc2 = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.q(x), self.k(x), self.v(x))
        return x + self.fc2(self.fc1(x))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The output of ``self.ma`` without its attention weights, which take N x N numbers and cannot be exported."""
        B, N, C = q.shape
        query, key, value = (self._headed(t, part) for part, t in enumerate((q, k, v)))
        mixed = F.scaled_dot_product_attention(query, key, value)  # (B, heads, N, C / heads)
        return self.ma.out_proj(mixed.transpose(1, 2).reshape(B, N, C))

    def _headed(self, x: Tensor, part: int) -> Tensor:
        """The queries (part 0), keys (1) or values (2) of all heads: (B, N, C) -> (B, heads, N, C / heads)."""
        weight, bias = self.ma.in_proj_weight.chunk(3)[part], self.ma.in_proj_bias.chunk(3)[part]
        return F.linear(x, weight, bias).unflatten(2, (self.ma.num_heads, -1)).transpose(1, 2)

    def attention_weights(self, x: Tensor, query: int | None) -> Tensor:
        """Attention weights of the tokens for one query, or the mean over all: (B, N, C) -> (B, heads, N)."""
        q, k = self._headed(self.q(x), 0), self._headed(self.k(x), 1)
        return attention_weights(q * q.shape[3] ** -0.5, k, query)


class TransformerBlock(nn.Module):
    """Transformer layers over the pixels of a map, with a learned linear position term (YOLOv5).

    Args:
        c1: input width.
        c2: output width.
        heads: attention heads.
        layers: number of layers.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, heads: int, layers: int) -> None:
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, heads) for _ in range(layers)))

    def _tokens(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, H * W, c2), each with its position term."""
        tokens = (x if self.conv is None else self.conv(x)).flatten(2).transpose(1, 2)
        return tokens + self.linear(tokens)

    def attention(self, x: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        """Attention weights in the last layer for the query in row and column `at`, or the mean over all: (B, heads, H, W)."""
        *before, last = self.tr
        assert isinstance(last, TransformerLayer)
        tokens = nn.Sequential(*before)(self._tokens(x))
        return last.attention_weights(tokens, None if at is None else at[0] * x.shape[3] + at[1]).unflatten(2, x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        out = self.tr(self._tokens(x)).transpose(1, 2)
        return out.reshape(*out.shape[:2], *x.shape[2:])  # unflatten would fix the map's size in an exported graph
