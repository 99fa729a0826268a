"""MobileViT blocks (Mehta & Rastegari, ICLR 2022, arXiv:2110.02178; Mehta & Rastegari, TMLR 2023, arXiv:2206.02680)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import Conv
from models.layers.norm import GroupNorm
from models.registry import preserve, register


class _Layer(nn.Module):
    """Pre-norm transformer layer: (B, groups, N, d) -> the same, attention within each group."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, int(width * ratio)), nn.Linear(int(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.qkv(self.norm1(x)).flatten(0, 1)
        q, k, v = tokens.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))
        return x + self.fc2(F.silu(self.fc1(self.norm2(x))))


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    """Resize a map bilinearly; itself at its own size, but for a trace, which has to hold at others."""
    if x.shape[2:] == (height, width) and not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return x
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def _fitted(x: Tensor, patch: int) -> Tensor:
    """Resize a map to the next multiples of the patch."""
    return _resized(x, x.shape[2] + -x.shape[2] % patch, x.shape[3] + -x.shape[3] % patch)


@register(preserve, example=(16, 1, 2))
class MobileViTAttention(nn.Module):
    """MobileViT block (arXiv:2110.02178, section 3.1): 3x3, 1x1, a transformer over patches, 1x1, joined with the input by a 3x3.

    The pixels of all patches at the same place attend to each other. Sizes that the patch does not divide are resized inside, as in the
    authors' code. Two 3x3 convolutions, one of them from 2C, and the transformer: above 2x a 3x3 convolution's time.

    Args:
        channels: width C of input and output.
        dim: width of the transformer; None is C, or the next multiple of the heads.
        depth: transformer layers.
        patch_size: side of the patches in pixels.
        heads: number of heads; as many of them as divide `dim`.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; memory of the gradient grows with (H * W)^2 / patch_size^2
    """

    def __init__(self, channels: int, dim: int | None = None, depth: int = 2, patch_size: int = 2, heads: int = 4) -> None:
        super().__init__()
        positive(self, dim=dim, depth=depth, patch_size=patch_size, heads=heads)
        dim = channels if dim is None else dim
        self.patch_size = patch_size
        self.local = nn.Sequential(Conv(channels, channels, 3), nn.Conv2d(channels, dim, 1, bias=False))
        self.layers = nn.Sequential(*(_Layer(dim, math.gcd(dim, heads), 2) for _ in range(depth)), nn.LayerNorm(dim))
        self.proj = Conv(dim, channels, 1)
        self.fusion = Conv(2 * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        p, height, width = self.patch_size, x.shape[2], x.shape[3]
        y = _fitted(self.local(x), p)
        rows, columns = y.shape[2] // p, y.shape[3] // p
        tokens = y.reshape(x.shape[0], -1, rows, p, columns, p).permute(0, 3, 5, 2, 4, 1)  # (B, p, p, rows, columns, d)
        tokens = self.layers(tokens.reshape(x.shape[0], p * p, rows * columns, -1))
        y = tokens.reshape(x.shape[0], p, p, rows, columns, -1).permute(0, 5, 3, 1, 4, 2).reshape(x.shape[0], -1, rows * p, columns * p)
        return self.fusion(torch.cat((x, self.proj(_resized(y, height, width))), 1))


class _SeparableLayer(nn.Module):
    """Separable self-attention and a feed-forward network, each with a residual and a norm before it: (B, C, H, W) -> the same.

    Patches of p x p pixels divide the map. It stays as it is: only the score, one channel, is brought into the order of patches.
    """

    def __init__(self, channels: int, p: int) -> None:
        super().__init__()
        self.p = p
        self.norm1, self.norm2 = GroupNorm(1, channels), GroupNorm(1, channels)
        self.score = nn.Conv2d(channels, 1, 1, bias=False)
        self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.fc1, self.fc2 = nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        p, rows, columns = self.p, height // self.p, width // self.p
        y = self.norm1(x)
        score = self.score(y).reshape(batch, rows, p, columns, p).permute(0, 2, 4, 1, 3)
        weights = score.reshape(batch, p, p, rows * columns).softmax(3).reshape(batch, 1, p, p, rows, columns)  # over the patches
        patches = (batch, channels, rows, p, columns, p)
        context = (self.key(y).reshape(patches) * weights.permute(0, 1, 4, 2, 5, 3)).sum((2, 4), keepdim=True)
        gated = F.relu(self.value(y)).reshape(patches) * context
        x = x + self.out(gated.reshape(batch, channels, height, width))
        return x + self.fc2(F.silu(self.fc1(self.norm2(x))))


@register(preserve, example=(1, 2))
class MobileViTv2Attention(nn.Module):
    """MobileViTv2 block (arXiv:2206.02680, section 3): depthwise 3x3, 1x1, separable self-attention in linear time, 1x1.

    A learned score weighs the patches' keys to one context vector, which gates every value. There is neither the skip nor the fusion of
    the first version. Two layers have 16 C^2 weights a pixel, a 3x3 convolution 9, and norms over the whole map.

    Args:
        channels: width C of input and output.
        depth: layers of separable self-attention and feed-forward network.
        patch_size: side of the patches in pixels.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, depth: int = 2, patch_size: int = 2) -> None:
        super().__init__()
        positive(self, depth=depth, patch_size=patch_size)
        self.patch_size = patch_size
        self.local = nn.Sequential(Conv(channels, channels, 3, g=channels), nn.Conv2d(channels, channels, 1, bias=False))
        self.layers = nn.Sequential(*(_SeparableLayer(channels, patch_size) for _ in range(depth)), GroupNorm(1, channels))
        self.proj = Conv(channels, channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(_fitted(self.local(x), self.patch_size))
        return self.proj(_resized(y, x.shape[2], x.shape[3]))
