"""Heads of attention: how many, and attention in each."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from models.arguments import positive


def heads_for(owner: object, channels: int, heads: int | None, wanted: int = 32) -> int:
    """The number of heads: as given, or of about `wanted` channels each, so that it divides the width; at least one.

    Raises:
        ValueError: heads that do not divide the width.
    """
    positive(owner, heads=heads)
    heads = math.gcd(channels, max(channels // wanted, 1)) if heads is None else heads
    if channels % heads:
        raise ValueError(f"{type(owner).__name__}: {heads} heads do not divide {channels} channels; {math.gcd(channels, heads)} would")
    return heads


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention of maps (B, C, H, W), with a bias (heads, H W, H W) on the logits."""
    a, b, c = (t.flatten(2).unflatten(1, (heads, -1)).transpose(2, 3) for t in (q, k, v))
    mask = None if bias is None else bias.to(a.dtype)
    return F.scaled_dot_product_attention(a, b, c, attn_mask=mask).transpose(2, 3).reshape(q.shape)
