"""MLPs that mix positions: Mixer, gMLP, ResMLP, sparse MLP and Vision Permutator.

The papers mix all positions of a map of one size. Here the map is cut into windows of that size, zero-padded right and bottom, so that
any map has the same weights; at the native size the blocks are the papers'.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import multiple, positive
from models.attention.tokens import Mlp
from models.attention.windows import unwindowed, windows
from models.registry import preserve, register


class WindowedMlp(nn.Module):
    """Pads, cuts into windows, mixes each, and joins them again.

    Args:
        size: side of a window.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        positive(self, size=size)
        self.size = size

    def mix(self, x: Tensor) -> Tensor:
        """(N, size, size, C) -> (N, size, size, C)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        cut = windows(x, self.size)  # (B, windows, size^2, C)
        mixed = self.mix(cut.reshape(-1, self.size, self.size, cut.shape[3]))
        return unwindowed(mixed.reshape(cut.shape), self.size, x)


@register(preserve, example=(3,))
class MLPMixer(WindowedMlp):
    """Mixer layer (Tolstikhin et al., NeurIPS 2021, arXiv:2105.01601, eq. 1).

    u = x + W2 gelu(W1 norm(x)) over the positions, y = u + W4 gelu(W3 norm(u)) over the channels.

    Args:
        channels: width C of input and output.
        size: side of a window.
        token_ratio: inner width over the positions / their number; 0.5 in the paper.
        ratio: inner width over the channels / C.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, size: int = 8, token_ratio: float = 0.5, ratio: float = 4.0) -> None:
        super().__init__(size)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.tokens, self.channels = Mlp(size * size, token_ratio), Mlp(channels, ratio)

    def mix(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1, 2)
        tokens = tokens + self.tokens(self.norm1(tokens).transpose(1, 2)).transpose(1, 2)
        return (tokens + self.channels(self.norm2(tokens))).view_as(x)


@register(preserve, name="gMLP", example=(3,))
class GatedMLP(WindowedMlp):
    """gMLP's block (Liu et al., NeurIPS 2021, arXiv:2105.08050, eq. 1-4): a spatial gating unit in an MLP with a residual.

    z = gelu(norm(x) U), halves z1 and z2, y = x + (z1 * (W norm(z2) + b)) V; W starts near 0 and b at 1, so that the gate starts open.

    Args:
        channels: width C of input and output.
        size: side of a window.
        ratio: inner width / C.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, size: int = 8, ratio: int = 4) -> None:
        super().__init__(size)
        positive(self, ratio=ratio)
        inner = channels * ratio
        multiple(self, 2, inner=inner)
        self.norm, self.gate_norm = nn.LayerNorm(channels), nn.LayerNorm(inner // 2)
        self.proj_in, self.proj_out = nn.Linear(channels, inner), nn.Linear(inner // 2, channels)
        self.spatial = nn.Linear(size * size, size * size)
        nn.init.normal_(self.spatial.weight, std=1e-6)
        nn.init.ones_(self.spatial.bias)

    def mix(self, x: Tensor) -> Tensor:
        z1, z2 = F.gelu(self.proj_in(self.norm(x.flatten(1, 2)))).chunk(2, 2)
        gate = self.spatial(self.gate_norm(z2).transpose(1, 2)).transpose(1, 2)
        return x + self.proj_out(z1 * gate).view_as(x)


class _Affine(nn.Module):
    """x * alpha + beta over the channels."""

    def __init__(self, channels: int, start: float = 1.0, *, shifted: bool = True) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), start))
        self.bias = nn.Parameter(torch.zeros(channels)) if shifted else None

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma if self.bias is None else x * self.gamma + self.bias


@register(preserve, example=(3,))
class ResMLP(WindowedMlp):
    """ResMLP's layer (Touvron et al., TPAMI 2022, arXiv:2105.03404, eq. 2-4): no norm, but a factor and a shift per channel.

    z = x + s1 * (A aff(x)) over the positions, y = z + s2 * (C gelu(B aff(z))) over the channels; s1 and s2 start small.

    Both layers have 1.3x the operations of a 3x3 convolution at the default window, and four scales each a pass over the map: some 2x
    its time.

    Args:
        channels: width C of input and output.
        size: side of a window.
        scale: where s1 and s2 start; the paper: 0.1 up to 18 layers, less for deeper networks.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, size: int = 8, scale: float = 0.1) -> None:
        super().__init__(size)
        self.aff1, self.aff2 = _Affine(channels), _Affine(channels)
        self.scale1, self.scale2 = (_Affine(channels, scale, shifted=False) for _ in range(2))
        self.tokens, self.channels = nn.Linear(size * size, size * size), Mlp(channels)

    def mix(self, x: Tensor) -> Tensor:
        z = x.flatten(1, 2)
        z = z + self.scale1(self.tokens(self.aff1(z).transpose(1, 2)).transpose(1, 2))
        return (z + self.scale2(self.channels(self.aff2(z)))).view_as(x)


@register(preserve, name="sMLP", example=(3,))
class SparseMLP(WindowedMlp):
    """Sparse MLP (Tang et al., AAAI 2022, arXiv:2109.05422, eq. 1): a layer along each column, one along each row, the identity, joined.

    Args:
        channels: width C of input and output.
        size: side of a window.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, size: int = 8) -> None:
        super().__init__(size)
        self.along_height, self.along_width = nn.Linear(size, size), nn.Linear(size, size)
        self.fuse_channels = nn.Linear(3 * channels, channels)

    def mix(self, x: Tensor) -> Tensor:
        high = self.along_height(x.transpose(1, 3)).transpose(1, 3)
        wide = self.along_width(x.transpose(2, 3)).transpose(2, 3)
        return self.fuse_channels(torch.cat((high, wide, x), 3))


@register(preserve, name="ViP", example=(2,))
class VisionPermutator(WindowedMlp):
    """Vision Permutator's layer (Hou et al., TPAMI 2022, arXiv:2106.12368, section 3.1-3.2), weighted.

    Height: the channels in `size` segments of C / size; a layer mixes rows and the channels of a segment, C values for each column. Width
    likewise; channels: one layer. The three are summed with weights per channel, a softmax of two layers of their pooled sum.

    Args:
        channels: width C of input and output, a multiple of `size`.
        size: side of a window, and number of segments.
        reduction: C / inner width of the weights' two layers.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: `size` does not divide the width.
    """

    def __init__(self, channels: int, size: int = 8, reduction: int = 4) -> None:
        super().__init__(size)
        multiple(self, size, channels=channels)
        self.mlp_h, self.mlp_w, self.mlp_c = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        inner = max(channels // reduction, 1)
        self.reweigh = nn.Sequential(nn.Linear(channels, inner), nn.GELU(), nn.Linear(inner, 3 * channels))
        self.proj = nn.Linear(channels, channels)

    def mix(self, x: Tensor) -> Tensor:
        N, size, _, C = x.shape
        segments = x.reshape(N, size, size, size, C // size)  # (N, row, column, segment, channel of it)
        high = self.mlp_h(segments.permute(0, 3, 2, 1, 4).flatten(3)).reshape(N, size, size, size, -1).permute(0, 3, 2, 1, 4)
        wide = self.mlp_w(segments.permute(0, 1, 3, 2, 4).flatten(3)).reshape(N, size, size, size, -1).permute(0, 1, 3, 2, 4)
        maps = torch.stack((high.flatten(3), wide.flatten(3), self.mlp_c(x)), 1)  # (N, 3, size, size, C)
        weights = self.reweigh(maps.sum(1).mean((1, 2))).reshape(N, C, 3).softmax(2).permute(0, 2, 1)
        return self.proj((maps * weights[:, :, None, None]).sum(1))
