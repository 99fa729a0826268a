"""Global context block (Cao et al., ICCVW 2019, arXiv:1904.11492)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.layers.conv import Conv
from models.layers.csp import C3
from models.registry import preserve, register, stack


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
        self.conv_mask = nn.Conv2d(channels, 1, 1, bias=False)  # the softmax ignores a constant
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


class _ContextBottleneck(nn.Module):
    """YOLOv5's bottleneck with a context block at the end of its branch, where the paper puts it: (B, width, H, W) -> the same."""

    def __init__(self, width: int, shortcut: bool, g: int, reduction: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(width, width, 1), Conv(width, width, 3, g=g)
        self.gc = GCBlock(width, reduction)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.gc(self.cv2(self.cv1(x)))
        return x + y if self.add else y


@register(stack, example=(48,))
class C3GC(C3):
    """`C3` whose inner blocks end with a `GCBlock`.

    Args:
        c1, c2, n, shortcut, g, e: as in `C3`.
        reduction: as in `GCBlock`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), any H, W >= 1
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5, reduction: int = 16) -> None:
        super().__init__(c1, c2, 0, shortcut, g, e)
        self.m = nn.Sequential(*(_ContextBottleneck(int(c2 * e), shortcut, g, reduction) for _ in range(n)))
