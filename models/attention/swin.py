"""Attention in shifted windows: Swin (Liu et al., ICCV 2021, arXiv:2103.14030) and Swin v2 (Liu et al., CVPR 2022, arXiv:2111.09883)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.cat import heads_of
from models.attention.tokens import DropPath, Mlp
from models.attention.windows import cut, joined, offset_index
from models.layers.csp import C3
from models.registry import preserve, register, stack


def _part(length: int, size: int, shift: int, device: torch.device) -> Tensor:
    """Which of the three parts of a rolled axis a position is of: those whose windows hold one part, and the last window's two."""
    place = torch.arange(length, device=device)
    return (place >= length - size).long() + (place >= length - shift).long()


def _shift_mask(height: int, width: int, size: int, shift: int, device: torch.device) -> Tensor:
    """0 where two pixels of a window of the rolled map are neighbours on the map itself, else -inf: (windows, size^2, size^2)."""
    part = 3 * _part(height, size, shift, device)[:, None] + _part(width, size, shift, device)
    inside = cut(part[None, :, :, None], size)[0, :, :, 0]
    apart = inside[:, :, None] != inside[:, None]
    return torch.zeros_like(apart, dtype=torch.float32).masked_fill(apart, float("-inf"))


class _WindowAttention(nn.Module):
    """Multi-head attention inside each window, with a learned bias for each offset (arXiv:2103.14030, eq. 4)."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("relative_position_index", offset_index(size, size))
        self.add_bias(size)

    def add_bias(self, size: int) -> None:
        """Make what the position bias is computed from."""
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * size - 1) ** 2, self.heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self) -> Tensor:
        """The position bias, (size^2, size^2, heads)."""
        return self.relative_position_bias_table[self.relative_position_index]

    def attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """(B, windows * heads, size^2, d) three times -> the same."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, windows, size^2, C) -> the same; the mask is (windows, size^2, size^2), or one for all windows."""
        batch, count, pixels, channels = x.shape
        qkv = self.qkv(x).reshape(batch, count, pixels, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv.reshape(3, batch, count * self.heads, pixels, -1).unbind(0)
        both = (self.bias().permute(2, 0, 1) + mask[:, None]).expand(count, -1, -1, -1)
        out = self.attended(q, k, v, both.reshape(1, count * self.heads, pixels, pixels))
        return self.proj(out.reshape(batch, count, self.heads, pixels, -1).transpose(2, 3).reshape(batch, count, pixels, channels))


class _CosineWindowAttention(_WindowAttention):
    """Scaled cosine attention, whose bias a small network gives for log-spaced offsets (arXiv:2111.09883, eq. 3-4).

    Keys have no bias, as in the authors' code.
    """

    offsets: Tensor

    def __init__(self, channels: int, heads: int, size: int) -> None:
        super().__init__(channels, heads, size)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def add_bias(self, size: int) -> None:
        self.logit_scale = nn.Parameter(torch.full((self.heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 512), nn.ReLU(inplace=True), nn.Linear(512, self.heads, bias=False))
        index = torch.arange(-(size - 1), size)
        table = torch.stack(torch.meshgrid(index, index, indexing="ij"), 2).flatten(0, 1) * 8 / max(size - 1, 1)
        self.register_buffer("offsets", table.sign() * (table.abs() + 1).log2() / 3, persistent=False)

    def bias(self) -> Tensor:
        return 16 * self.cpb_mlp(self.offsets.to(self.q_bias.dtype)).sigmoid()[self.relative_position_index]

    def attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        width = self.heads * q.shape[3]
        windows = q.shape[1] // self.heads
        q = q + self.q_bias.view(1, self.heads, 1, -1).repeat(1, windows, 1, 1)
        v = v + self.v_bias.view(1, self.heads, 1, width // self.heads).repeat(1, windows, 1, 1)
        scale = self.logit_scale.clamp(max=math.log(100)).exp().repeat(windows, 1, 1)
        q, k = F.normalize(q, dim=3) * scale, F.normalize(k, dim=3)
        return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask.to(v.dtype), scale=1.0)


class _Block(nn.Module):
    """Windows of a map, perhaps rolled by half a window, attention in each, and an MLP."""

    def __init__(self, channels: int, attention: _WindowAttention, size: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.size, self.shift = size, size // 2 if shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn, self.mlp = attention, Mlp(channels)
        self.drop_path = DropPath(drop_path)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def mixed(self, x: Tensor) -> Tensor:
        """Attention in the windows of a map padded with zeros to whole windows: (B, H, W, C) -> the same."""
        height, width = x.shape[1:3]
        size, shift = self.size, self.shift
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        rows, columns = x.shape[1:3]
        if shift:
            mask = _shift_mask(rows, columns, size, shift, x.device)
            tokens = self.attn(cut(x.roll((-shift, -shift), (1, 2)), size), mask)
            return joined(tokens, size, rows, columns).roll((shift, shift), (1, 2))[:, :height, :width]
        tokens = self.attn(cut(x, size), x.new_zeros(1, size * size, size * size))
        return joined(tokens, size, rows, columns)[:, :height, :width]

    def mix(self, x: Tensor) -> Tensor:
        """The block on (B, H, W, C)."""
        x = x + self.drop_path(self.mixed(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@register(preserve, example=(2, 4, True))
class SwinBlock(_Block):
    """Swin transformer block (arXiv:2103.14030, section 3.2): attention in windows, perhaps shifted, and an MLP; norms come first.

    Linear layers and the bias table start as truncated normal of 0.02, as the authors'. They have 12 C^2 weights a pixel, a 3x3
    convolution 9: with norms and windows it takes more than 2x its time.

    Args:
        channels: width C of input and output.
        heads: number of heads; None gives each 32 channels, as in the paper, or the next number that divides.
        window_size: side of the windows in pixels.
        shifted: roll the map by half a window, so that windows of successive blocks overlap.
        drop_path: stochastic depth.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; padded to whole windows inside, as in the authors' detection code

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(
        self, channels: int, heads: int | None = None, window_size: int = 7, shifted: bool = False, drop_path: float = 0.0
    ) -> None:
        attention = _WindowAttention(channels, _checked(self, channels, heads, window_size), window_size)
        super().__init__(channels, attention, window_size, shifted, drop_path)


@register(preserve, example=(2, 4, True))
class SwinV2Block(_Block):
    """Swin v2 block (arXiv:2111.09883, section 3): cosine attention, a bias from log-spaced offsets, and norms after each branch.

    The norms start at zero, as the authors', so that the block starts as the identity. Costs are those of `SwinBlock`.

    Args:
        channels, heads, window_size, shifted, drop_path: as in `SwinBlock`.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; padded to whole windows inside

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(
        self, channels: int, heads: int | None = None, window_size: int = 8, shifted: bool = False, drop_path: float = 0.0
    ) -> None:
        attention = _CosineWindowAttention(channels, _checked(self, channels, heads, window_size), window_size)
        super().__init__(channels, attention, window_size, shifted, drop_path)
        nn.init.zeros_(self.norm1.weight)
        nn.init.zeros_(self.norm2.weight)

    def mix(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.norm1(self.mixed(x)))
        return x + self.drop_path(self.norm2(self.mlp(x)))


def _checked(block: nn.Module, channels: int, heads: int | None, window_size: int) -> int:
    positive(block, heads=heads, window_size=window_size)
    heads = heads_of(channels) if heads is None else heads
    if channels % heads:
        fit = max(n for n in range(1, min(heads, channels + 1)) if channels % n == 0)
        raise ValueError(f"{type(block).__name__}: {heads} heads do not divide {channels} channels; {fit} would")
    return heads


@register(stack, example=(48,))
class C3Swin(C3):
    """`C3` with Swin blocks inside, every second one shifted.

    Args:
        c1, c2, n, e: as in `C3`.
        shortcut: no effect; the blocks have residuals of their own.
        window_size: as in `SwinBlock`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), any H, W >= 1
    """

    block: type[SwinBlock | SwinV2Block] = SwinBlock

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        shortcut: bool = True,  # noqa: ARG002 - a row of C3 keeps its arguments
        window_size: int = 7,
        e: float = 0.5,
    ) -> None:
        super().__init__(c1, c2, 0, e=e)
        self.m = nn.Sequential(*(self.block(int(c2 * e), None, window_size, i % 2 == 1) for i in range(n)))


@register(stack, example=(48,))
class C3SwinV2(C3Swin):
    """`C3` with Swin v2 blocks (arXiv:2111.09883) inside, every second one shifted.

    Args:
        c1, c2, n, shortcut, window_size, e: as in `C3Swin`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), any H, W >= 1
    """

    block = SwinV2Block

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, window_size: int = 8, e: float = 0.5) -> None:
        super().__init__(c1, c2, n, shortcut, window_size, e)
