"""Global context block (Cao et al., ICCVW 2019, arXiv:1904.11492)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.registry import preserve, register


@register(preserve, example=(4,))
class GCBlock(nn.Module):
    """Global context (arXiv:1904.11492, eq. 5): one attention map shared by all queries; its context is transformed and added.

    The last convolution starts at zero, so the block starts as the identity.

    Args:
        channels: width C of input and output.
        reduction: the bottleneck has max(C // reduction, 8) channels; LayerNorm of a single channel would be constant.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        positive(self, reduction=reduction)
        hidden = max(channels // reduction, 8)
        self.conv_mask = nn.Conv2d(channels, 1, 1)
        last = nn.Conv2d(hidden, channels, 1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.channel_add_conv = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(inplace=True), last)

    def attention(self, x: Tensor) -> Tensor:
        """Attention weights of the positions, (B, 1, H, W); sum to 1."""
        return self.conv_mask(x).flatten(2).softmax(2).unflatten(2, x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        weights = self.attention(x).flatten(2)  # (B, 1, H * W)
        context = torch.matmul(x.flatten(2), weights.transpose(1, 2).to(x.dtype))  # (B, C, 1)
        return x + self.channel_add_conv(context[..., None])
