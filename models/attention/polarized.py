"""Polarized self-attention (Liu et al., 2021, arXiv:2107.00782)."""

from __future__ import annotations

from torch import Tensor, nn

from models.arguments import multiple
from models.registry import preserve, register


@register(preserve)
class PolarizedAttention(nn.Module):
    """Polarized self-attention (arXiv:2107.00782, eq. 1-4): a gate for each channel and one for each position, both at half width.

    The channel gate sums the positions with softmax weights; the position gate sums the channels with softmax weights that the means
    of a second embedding give. The authors' code takes that second softmax over the positions instead, after the sum.

    Args:
        channels: width C of input and output, even.
        parallel: gate by both and add; otherwise by channels, then by positions, "sequential".

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an odd width.
    """

    def __init__(self, channels: int, parallel: bool = False) -> None:
        super().__init__()
        multiple(self, 2, channels=channels)
        half = channels // 2
        self.parallel = parallel
        self.ch_wv = nn.Conv2d(channels, half, 1, bias=False)
        self.ch_wq = nn.Conv2d(channels, 1, 1, bias=False)
        self.ch_wz = nn.Conv2d(half, channels, 1)
        self.ln = nn.LayerNorm(channels)
        self.sp_wv = nn.Conv2d(channels, half, 1, bias=False)
        self.sp_wq = nn.Conv2d(channels, half, 1, bias=False)

    def _by_channel(self, x: Tensor) -> Tensor:
        """The gate of the channels, (B, C, 1, 1)."""
        weights = self.ch_wq(x).flatten(2).softmax(2)  # (B, 1, N)
        described = self.ch_wv(x).flatten(2) @ weights.transpose(1, 2).to(x.dtype)  # (B, C / 2, 1)
        return self.ln(self.ch_wz(described[..., None])[:, :, 0, 0]).sigmoid()[:, :, None, None]

    def _by_place(self, x: Tensor) -> Tensor:
        """The gate of the positions, (B, 1, H, W)."""
        values = self.sp_wv(x)
        weights = self.sp_wq(x).mean((2, 3)).softmax(1)[:, None].to(values.dtype)  # (B, 1, C / 2)
        return (weights @ values.flatten(2)).sigmoid().unflatten(2, x.shape[2:])

    def attention(self, x: Tensor) -> Tensor:
        """The gate of the positions, (B, 1, H, W)."""
        return self._by_place(x if self.parallel else x * self._by_channel(x))

    def forward(self, x: Tensor) -> Tensor:
        y = x * self._by_channel(x)
        return y + x * self._by_place(x) if self.parallel else y * self._by_place(y)
