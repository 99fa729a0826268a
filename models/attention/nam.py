"""Normalization-based attention (Liu et al., NeurIPS 2021 workshop, arXiv:2111.12419)."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


@register(preserve)
class NAM(nn.Module):
    """Channel attention of NAM (arXiv:2111.12419, eq. 1-2): the factors of a batch norm weigh the channels.

    gate = sigmoid(w_c BN(x)_c) with w_c = |gamma_c| / sum |gamma|. The gradient reaches gamma through both; copies cut it off from w.
    The paper's spatial half has a factor for each pixel of a map of fixed size; the authors' code leaves it out, as here.

    Args:
        channels: width C of input and output.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn2 = PooledBatchNorm(channels)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W)."""
        share = self.bn2.weight.abs()
        return (self.bn2(x) * (share / share.sum()).view(-1, 1, 1)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
