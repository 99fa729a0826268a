"""Effective squeeze-and-excitation (Lee & Park, CVPR 2020, arXiv:1911.06667)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import preserve, register


@register(preserve)
class EffectiveSE(nn.Module):
    """Effective squeeze-and-excitation of VoVNetV2 (arXiv:1911.06667, eq. 4-5): one layer of full width, without a bottleneck.

    The sigmoid is the piecewise linear relu6(x + 3) / 6, as in the authors' code.

    Args:
        channels: width C of input and output.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, 1, 1)."""
        return F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
