"""ConvNeXt's block (Liu et al., CVPR 2022, arXiv:2201.03545), alone and in a cross-stage-partial block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd
from models.attention.tokens import DropPath
from models.layers.csp import C3
from models.layers.residual import init_transformer_weights
from models.registry import preserve, register, stack


@register(preserve, example=(7,))
class ConvNextBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, an MLP of four times the width, layer scale and a residual (arXiv:2201.03545, figure 4, section 2.6).

    Weights start as the authors': truncated normal of deviation 0.02, zero biases.

    Args:
        channels: width C of input and output.
        kernel_size: side of the depthwise convolution, odd.
        layer_scale: initial value of the per-channel scales; 0 for none.
        drop_path: probability of dropping the residual branch for a sample in training.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size, or a probability outside [0, 1).
    """

    def __init__(self, channels: int, kernel_size: int = 7, layer_scale: float = 1e-6, drop_path: float = 0.0) -> None:
        super().__init__()
        odd(self, kernel_size=kernel_size)
        self.dwconv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale)) if layer_scale > 0 else None
        self.drop_path = DropPath(drop_path)
        init_transformer_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.dwconv(x).permute(0, 2, 3, 1))  # (B, H, W, C)
        tokens = F.gelu(self.pwconv1(tokens))
        if self.gamma is None:
            tokens = self.pwconv2(tokens)
        else:  # the scales multiply the weights, which are fewer than the pixels
            tokens = F.linear(tokens, self.pwconv2.weight * self.gamma[:, None], self.pwconv2.bias * self.gamma)
        return x + self.drop_path(tokens.permute(0, 3, 1, 2))


@register(stack, example=(48,))
class CNeB(C3):
    """`C3` with `ConvNextBlock` inside.

    Args:
        c1, c2, n, e: as in `C3`.
        shortcut, g: have no effect; the block has its own residual.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:  # noqa: ARG002
        return nn.Sequential(*(ConvNextBlock(width) for _ in range(n)))
