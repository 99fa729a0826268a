"""Squeeze-and-Excitation (Hu et al., CVPR 2018, arXiv:1709.01507)."""

from __future__ import annotations

from torch import Tensor, nn

from models.arguments import positive
from models.registry import preserve, register


@register(preserve, example=(4,))
class SE(nn.Module):
    """Squeeze-and-Excitation (arXiv:1709.01507, eq. 2-4): one gate per channel, from the means of all channels.

    Without `bias` it is the widely used PyTorch form, whose weights load by name.

    Args:
        channels: width C of input and output.
        reduction: the bottleneck has max(C // reduction, least) units.
        bias: biases in both layers, as in the paper.
        least: minimum number of units.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, reduction: int = 16, bias: bool = False, least: int = 1) -> None:
        super().__init__()
        positive(self, reduction=reduction, least=least)
        hidden = max(channels // reduction, least)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=bias), nn.ReLU(inplace=True), nn.Linear(hidden, channels, bias=bias), nn.Sigmoid()
        )

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, 1, 1)."""
        return self.fc(x.mean((2, 3)))[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
