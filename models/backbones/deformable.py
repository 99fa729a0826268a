"""Modulated deformable convolution (Zhu et al., CVPR 2019, arXiv:1811.11168)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ModulatedDeformConv(nn.Module):
    """A 3x3 whose nine samples move and are weighted at each pixel (arXiv:1811.11168, eq. 1): DCNv2, one group, no bias.

    Torchvision's operator cannot be exported to ONNX; this samples with `grid_sample`. The layer of moves and weights starts at zero:
    no moves, weights of a half, as in the paper. Nine gathered maps take more than 2x a 3x3 convolution's time.

    Args:
        channels: width C of input and output.
        stride: of the convolution.

    Shape:
        (B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels, 3, bias=False)  # its weights, which `forward` multiplies itself
        self.offset = nn.Conv2d(channels, 27, 3, stride, 1)
        self.zero_offsets()

    def zero_offsets(self) -> None:
        """Start without moves."""
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        moves = self.offset(x)
        h, w = moves.shape[2:]
        tap = torch.arange(-1, 2, device=x.device).expand(3, 3)
        # Positions in pixels, (B, 9, h, w), in single precision: rounding would move them.
        y = torch.arange(h, device=x.device)[:, None] * self.stride + tap.t().reshape(9, 1, 1) + moves[:, 0:18:2].float()
        x_ = torch.arange(w, device=x.device) * self.stride + tap.reshape(9, 1, 1) + moves[:, 1:18:2].float()
        grid = torch.stack(((2 * x_ + 1) / W - 1, (2 * y + 1) / H - 1), 4).reshape(B, 9 * h, w, 2)
        samples = F.grid_sample(x.float(), grid, mode="bilinear", align_corners=False).to(moves.dtype).reshape(B, C, 9, h * w)
        samples = samples * moves[:, 18:].sigmoid().reshape(B, 1, 9, h * w)
        return (self.conv.weight.reshape(C, C * 9) @ samples.reshape(B, C * 9, h * w)).reshape(B, C, h, w)
