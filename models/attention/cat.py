"""Cross attention in a transformer: inner-patch and cross-patch blocks (Lin et al., ICME 2022, arXiv:2106.05786)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.tokens import DropPath, Mlp
from models.attention.windows import offset_index
from models.layers.csp import C3
from models.layers.residual import init_transformer_weights
from models.layers.transformer import attention_weights
from models.registry import preserve, register, stack


def heads_of(channels: int, wanted: int = 32) -> int:
    """The maximum number of heads that divides the width and gives each at least `wanted` channels, 32 in the paper; at least 1."""
    return max(n for n in range(1, max(channels // wanted, 1) + 1) if channels % n == 0)


def _padded(x: Tensor, patch: int) -> Tensor:
    """Pad (B, H, W, C) with zeros on the bottom and the right to multiples of `patch`."""
    height, width = x.shape[1:3]
    return F.pad(x, (0, 0, 0, -width % patch, 0, -height % patch))


class _InnerPatchAttention(nn.Module):
    """Multi-head attention among the pixels of each P x P window, with relative position bias (query minus key)."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, patch: int) -> None:
        super().__init__()
        self.heads, self.patch = heads, patch
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * patch - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", offset_index(patch, patch))

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values of the windows, (windows, heads, P^2, d), and the position bias, (1, heads, P^2, P^2)."""
        patch, (batch, height, width, channels) = self.patch, x.shape
        windows = x.reshape(batch, height // patch, patch, width // patch, patch, channels).transpose(2, 3)
        qkv = self.qkv(windows.reshape(-1, patch * patch, channels))
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v, self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]

    def attention_weights(self, x: Tensor, at: tuple[int, int] | None) -> Tensor:
        """Attention weights of each pixel in its window, (B, heads, H, W); for one query pixel, zero outside its window."""
        patch, (batch, height, width, _) = self.patch, x.shape
        grid = (batch, height // patch, width // patch)
        q, k, _, bias = self._projected(x)
        query = None if at is None else at[0] % patch * patch + at[1] % patch
        out = attention_weights(q * q.shape[3] ** -0.5, k, query, bias).reshape(*grid, self.heads, patch, patch)
        if at is not None:
            window = out.new_zeros(grid[1:])
            window[at[0] // patch, at[1] // patch] = 1
            out = out * window[..., None, None, None]
        return out.permute(0, 3, 1, 4, 2, 5).reshape(batch, self.heads, height, width)

    def forward(self, x: Tensor) -> Tensor:
        patch, (batch, height, width, channels) = self.patch, x.shape
        q, k, v, bias = self._projected(x)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        out = self.proj(out.transpose(1, 2).flatten(2)).reshape(batch, height // patch, width // patch, patch, patch, channels)
        return out.transpose(2, 3).reshape(batch, height, width, channels)


class _CrossPatchAttention(nn.Module):
    """Attention among the P x P patches of each channel separately; the pixels of a patch are its features."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.qkv = nn.Linear(patch * patch, 3 * patch * patch)
        self.proj = nn.Linear(patch * patch, patch * patch)

    def _tokens(self, x: Tensor) -> Tensor:
        patch, (batch, height, width, channels) = self.patch, x.shape
        tokens = x.reshape(batch, height // patch, patch, width // patch, patch, channels).permute(0, 5, 1, 3, 2, 4)
        return tokens.reshape(batch * channels, 1, -1, patch * patch)

    def attention_weights(self, x: Tensor, at: tuple[int, int] | None) -> Tensor:
        """Attention weights of each patch among its channel's patches, the same for all of its pixels: (B, C, H, W)."""
        patch, (batch, height, width, channels) = self.patch, x.shape
        q, k, _ = self.qkv(self._tokens(x)).chunk(3, -1)
        query = None if at is None else at[0] // patch * (width // patch) + at[1] // patch
        out = attention_weights(q / patch, k, query).reshape(batch, channels, height // patch, width // patch)
        return out.repeat_interleave(patch, 2).repeat_interleave(patch, 3)

    def forward(self, x: Tensor) -> Tensor:
        patch, (batch, height, width, channels) = self.patch, x.shape
        q, k, v = self.qkv(self._tokens(x)).chunk(3, -1)
        out = self.proj(F.scaled_dot_product_attention(q, k, v))
        out = out.reshape(batch, channels, height // patch, width // patch, patch, patch).permute(0, 2, 4, 3, 5, 1)
        return out.reshape(batch, height, width, channels)


class _Block(nn.Module):
    """Pre-norm transformer block over a map; the input of the attention is padded to whole patches, its output cropped.

    Linear layers and bias tables start as truncated normal of 0.02, biases at zero, as the authors'.
    """

    def __init__(self, channels: int, attention: _InnerPatchAttention | _CrossPatchAttention, patch_size: int, drop_path: float) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.norm1 = nn.LayerNorm(channels)
        self.attn: _InnerPatchAttention | _CrossPatchAttention = attention
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)
        self.drop_path = DropPath(drop_path)
        init_transformer_weights(self, (nn.Linear,))

    def attention(self, x: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        """Attention weights of each pixel, or its patch, for the query in row and column `at`, or the mean over all: (B, maps, H, W)."""
        height, width = x.shape[2:]
        padded = _padded(self.norm1(x.permute(0, 2, 3, 1)), self.patch_size)
        return self.attn.attention_weights(padded, at)[..., :height, :width]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C): norms, linear layers and sums need no further copies
        mixed = self.attn(_padded(self.norm1(x), self.patch_size))[:, :height, :width]
        x = x + self.drop_path(mixed)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.permute(0, 3, 1, 2)


@register(preserve, example=(4, 3))
class IPSA(_Block):
    """Inner-patch self-attention block (arXiv:2106.05786, section 3.2).

    Projections and MLP have 12 C^2 weights a pixel, a 3x3 convolution 9: with norms and windows it takes more than 2x its time.

    Args:
        channels: width C of input and output.
        heads: number of heads; None is `heads_of(channels)`.
        patch_size: side P of the windows in pixels.
        drop_path: stochastic depth.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; padded to multiples of P internally, as in the authors' detection code

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, channels: int, heads: int | None = None, patch_size: int = 7, drop_path: float = 0.0) -> None:
        positive(self, heads=heads, patch_size=patch_size)
        heads = heads_of(channels) if heads is None else heads
        if channels % heads:
            fit = max(n for n in range(1, min(heads, channels + 1)) if channels % n == 0)
            raise ValueError(f"IPSA: {heads} heads do not divide {channels} channels; {fit} would")
        super().__init__(channels, _InnerPatchAttention(channels, heads, patch_size), patch_size, drop_path)


@register(preserve, example=(3,))
class CPSA(_Block):
    """Cross-patch self-attention block (arXiv:2106.05786, section 3.3): one head, shared by all channels.

    Args:
        channels: width C of input and output.
        patch_size: side P of the patches in pixels.
        drop_path: stochastic depth.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; padded to multiples of P internally
    """

    def __init__(self, channels: int, patch_size: int = 7, drop_path: float = 0.0) -> None:
        positive(self, patch_size=patch_size)
        super().__init__(channels, _CrossPatchAttention(patch_size), patch_size, drop_path)


@register(preserve, example=(2, 3))
class CAB(nn.Module):
    """Cross attention block: inner-patch, cross-patch, inner-patch, `depth` times each (arXiv:2106.05786, section 3.4).

    Three blocks with an MLP each have 32 C^2 weights a pixel, a 3x3 convolution 9: it takes some 6x its time.

    Args:
        channels: width C of input and output.
        heads: heads of the inner-patch blocks, as in `IPSA`.
        patch_size: side P of the patches in pixels.
        depth: number of such triples.
        drop_path: stochastic depth, or that of each triple.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(
        self,
        channels: int,
        heads: int | None = None,
        patch_size: int = 7,
        depth: int = 1,
        drop_path: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        positive(self, depth=depth)
        rates = [drop_path] * depth if isinstance(drop_path, int | float) else drop_path
        if len(rates) != depth:
            raise ValueError(f"CAB: {len(rates)} rates of drop_path for a depth of {depth}")
        self.pre_ipsa_blocks = nn.ModuleList(IPSA(channels, heads, patch_size, rate) for rate in rates)
        self.cpsa_blocks = nn.ModuleList(CPSA(channels, patch_size, rate) for rate in rates)
        self.post_ipsa_blocks = nn.ModuleList(IPSA(channels, heads, patch_size, rate) for rate in rates)

    def forward(self, x: Tensor) -> Tensor:
        for first, cross, last in zip(self.pre_ipsa_blocks, self.cpsa_blocks, self.post_ipsa_blocks, strict=True):
            x = last(cross(first(x)))
        return x


@register(stack, example=(48,))
class C3CAT(C3):
    """`C3` with cross attention blocks inside, whose cost is that of `CAB` at half the width.

    Args:
        c1, c2, n, e: as in `C3`.
        shortcut: has no effect; the blocks have their own residuals.
        heads: must divide the inner width; None as in `IPSA`.
        patch_size: side of the patches in pixels.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the inner width.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        shortcut: bool = True,  # noqa: ARG002 - a row of C3 keeps its arguments
        heads: int | None = None,
        patch_size: int = 7,
        e: float = 0.5,
    ) -> None:
        super().__init__(c1, c2, 0, e=e)
        inner = int(c2 * e)
        self.m = nn.Sequential(*(CAB(inner, heads, patch_size) for _ in range(n)))
