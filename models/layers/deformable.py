"""Deformable convolution: the taps of a kernel move at each pixel, and are weighted there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.layers.conv import batch_norm, fold_members
from models.registry import project, register


def deformable_conv(x: Tensor, conv: nn.Conv2d, offsets: Tensor, modulation: Tensor, stride: int = 1) -> Tensor:
    """A convolution whose taps move and are weighted (Zhu et al., CVPR 2019, arXiv:1811.11168, eq. 1), padded to keep the size.

    It computes what torchvision's operator does, which cannot be exported to ONNX; here `grid_sample` gathers the taps.

    Args:
        x: (B, C, H, W).
        conv: holds weight (out, C, k, k), k odd, and bias.
        offsets: (B, 2 k k, h, w), pixels by which each tap moves, taps row-major, y before x.
        modulation: (B, k k, h, w), factor of each tap.
        stride: of the convolution; h and w are H and W divided by it, rounded up.

    Returns:
        (B, out, h, w)
    """
    B, C, H, W = x.shape
    out, _, k, _ = conv.weight.shape
    h, w = offsets.shape[2:]
    tap = torch.arange(-(k // 2), k // 2 + 1, device=x.device).expand(k, k)
    # Positions in pixels, (B, k k, h, w), in single precision or better: rounding would move them.
    precise = torch.promote_types(offsets.dtype, torch.float32)
    rows = torch.arange(h, device=x.device)[:, None] * stride + tap.t().reshape(k * k, 1, 1) + offsets[:, 0::2].to(precise)
    columns = torch.arange(w, device=x.device) * stride + tap.reshape(k * k, 1, 1) + offsets[:, 1::2].to(precise)
    grid = torch.stack(((2 * columns + 1) / W - 1, (2 * rows + 1) / H - 1), 4).reshape(B, k * k * h, w, 2)
    samples = F.grid_sample(x.to(precise), grid, mode="bilinear", align_corners=False).to(modulation.dtype)
    samples = samples.reshape(B, C, k * k, h * w) * modulation.reshape(B, 1, k * k, h * w)
    y = (conv.weight.reshape(out, C * k * k) @ samples.reshape(B, C * k * k, h * w)).reshape(B, out, h, w)
    return y if conv.bias is None else y + conv.bias.reshape(out, 1, 1).to(y.dtype)


class TapMoves(nn.Conv2d):
    """The convolution that finds offsets and modulations; zero at the start: no moves, weights of a half.

    Args:
        channels: width of its input.
        k: side of the kernel whose taps move, and its own; odd.
        stride: of both.

    Shape:
        (B, C, H, W) -> offsets (B, 2 k k, h, w) and modulation (B, k k, h, w), 0 to 1
    """

    def __init__(self, channels: int, k: int = 3, stride: int = 1) -> None:
        super().__init__(channels, 3 * k * k, k, stride, k // 2)
        self.start_still()

    def start_still(self) -> None:
        """Start without moves, in a network that has initialised all its convolutions too."""
        assert self.bias is not None
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def moves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(offsets, modulation) of a map."""
        offsets, modulation = self(x).split((self.out_channels // 3 * 2, self.out_channels // 3), 1)
        return offsets, modulation.sigmoid()


class ModulatedDeformConv(nn.Module):
    """A 3x3 whose nine samples move and are weighted at each pixel (arXiv:1811.11168, eq. 1): DCNv2, one group, no bias.

    Nine gathered maps take more than 2x a 3x3 convolution's time.

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
        self.offset = TapMoves(channels, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        offsets, modulation = self.offset.moves(x)
        return deformable_conv(x, self.conv, offsets, modulation, self.stride)


@register(project, example=(48, 3, 2))
class DCNv2(nn.Module):
    """Modulated deformable convolution, batch norm, activation (arXiv:1811.11168, eq. 1; Dai et al., arXiv:1703.06211).

    The k x k gathered maps, each as large as the input, take several times a 3x3 convolution's time on a CPU.

    Args:
        c1: input width.
        c2: output width.
        k: side of the kernel, odd.
        s: stride.
        act: a SiLU; False is none.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: an even kernel.
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, act: bool = True) -> None:
        super().__init__()
        odd(self, k=k)
        positive(self, s=s)
        self.stride = s
        self.conv = nn.Conv2d(c1, c2, k, bias=False)
        self.conv_offset = TapMoves(c1, k, s)
        self.bn: nn.Module = batch_norm(c2)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        offsets, modulation = self.conv_offset.moves(x)
        return self.act(self.bn(deformable_conv(x, self.conv, offsets, modulation, self.stride)))

    def fuse(self) -> None:
        """Fold the batch norm."""
        fold_members(self, ("conv", "bn"))
