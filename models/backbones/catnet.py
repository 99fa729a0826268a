"""CAT as a backbone (Lin et al., ICME 2022, arXiv:2106.05786)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import four_stages
from models.attention.cat import CAB, heads_of
from models.backbones.pretrained import State, load_pretrained
from models.layers.fuse import pad_to_multiple
from models.layers.norm import ChannelNorm
from models.layers.residual import start_as_transformer
from models.registry import pyramid, register

_NATIVE = (56, 56)
"""Tokens of an image of 224 pixels, those of the position embedding."""


class _Embedding(nn.Module):
    """4x4 convolution of stride 4 and LayerNorm; the image is padded to multiples of 4."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, 4, stride=4)
        self.norm = ChannelNorm(width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(pad_to_multiple(x, 4)))


class PatchProjection(nn.Module):
    """Halve the map: 2x2 pixels side by side, LayerNorm, linear to twice the width (section 3.4).

    Args:
        channels: width C of the input.

    Shape:
        (B, C, H, W) -> (B, 2C, ceil(H / 2), ceil(W / 2))
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, 2).permute(0, 2, 3, 1)
        x = torch.cat((x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]), 3)
        return self.reduction(self.norm(x)).permute(0, 3, 1, 2)


class _Stage(nn.Module):
    """`depth` cross attention blocks, then perhaps a patch projection; returns both outputs."""

    def __init__(self, channels: int, heads: int, patch: int, depth: int, drop_path: float, shrink: bool) -> None:
        super().__init__()
        blocks = CAB(channels, heads, patch, depth, drop_path)
        # The authors' names have no level for the block between stage and lists.
        self.pre_ipsa_blocks, self.cpsa_blocks, self.post_ipsa_blocks = blocks.pre_ipsa_blocks, blocks.cpsa_blocks, blocks.post_ipsa_blocks
        self.downsample = PatchProjection(channels) if shrink else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for first, cross, last in zip(self.pre_ipsa_blocks, self.cpsa_blocks, self.post_ipsa_blocks, strict=True):
            x = last(cross(first(x)))
        return x, x if self.downsample is None else self.downsample(x)


def cat_widths(channels: int = 3, embed: int = 64, *_: object, **__: object) -> tuple[int, ...]:  # noqa: ARG001
    """Widths of the outputs, for the constructor's arguments."""
    return embed, 2 * embed, 4 * embed, 8 * embed


@register(pyramid(cat_widths, scaled=True), example=(8, (0, 1, 2, 3), (1, 1, 1, 1), 1, 3), inputs=(3,))
class CAT(nn.Module):
    """Cross attention transformer: four stages of CAB (section 3.4, table 1), outputs normed as in the authors' detectors.

    Args:
        channels: width of the image.
        embed: width C of the first stage; the others have 2C, 4C, 8C. In a YAML it is scaled by the model's width.
        normed: outputs that get a norm; one that nobody reads should have none, for it would never be trained.
        depths: blocks a stage.
        heads: of the first stage, doubled from stage to stage; None gives each 32 channels.
        patch_size: side of the patches.
        drop_path: stochastic depth of the last stage; it grows linearly from 0.
        pretrained: an authors' classification or detection checkpoint.

    Shape:
        (B, channels, H, W) -> four maps of strides 4, 8, 16, 32, sizes rounded up
    """

    def __init__(
        self,
        channels: int = 3,
        embed: int = 64,
        normed: Sequence[int] = (0, 1, 2, 3),
        depths: Sequence[int] = (1, 1, 3, 1),
        heads: int | None = None,
        patch_size: int = 7,
        drop_path: float = 0.0,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        four_stages(self, depths, normed)
        self.patch_embed = _Embedding(channels, embed)
        self.ape = nn.Parameter(torch.zeros(1, embed, *_NATIVE))  # resized to the map at hand
        nn.init.trunc_normal_(self.ape, std=0.02)
        heads = heads_of(embed) if heads is None else heads
        last = len(depths) - 1
        self.layers = nn.ModuleList(
            _Stage(embed * 2**i, heads * 2**i, patch_size, depth, drop_path * i / last, i < last) for i, depth in enumerate(depths)
        )
        self.normed = frozenset(normed)
        for i in sorted(self.normed):
            self.add_module(f"norm{i}", ChannelNorm(embed * 2**i, eps=1e-5))
        start_as_transformer(self, (nn.Linear,))
        if pretrained:
            load_pretrained(
                self,
                pretrained,
                unused=("head.", "norm.", *(f"norm{i}." for i in range(4) if i not in self.normed)),
                own=("norm", "ape"),
                convert=_position,
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.patch_embed(x)
        position: Tensor = self.ape
        if torch.jit.is_tracing() or position.shape[2:] != x.shape[2:]:  # type: ignore[attr-defined, no-untyped-call]
            position = F.interpolate(position.float(), size=x.shape[2:], mode="bicubic", align_corners=False).to(x.dtype)
        x = x + position
        outputs = []
        for i, stage in enumerate(self.layers):
            y, x = stage(x)
            outputs.append(self.get_submodule(f"norm{i}")(y) if i in self.normed else y)
        return outputs


def _position(state: State) -> State:
    """Classification checkpoints keep the position embedding as (1, L, C), detection ones as (1, C, h, w); images may have been larger."""
    tensor = state.get("ape")
    if tensor is not None and tensor.dim() == 3 and (side := math.isqrt(tensor.shape[1])) ** 2 == tensor.shape[1]:
        tensor = tensor.transpose(1, 2).unflatten(2, (side, side))
    if tensor is None or tensor.dim() != 4:
        return state
    native = tensor.shape[2:] == _NATIVE
    return {**state, "ape": tensor if native else F.interpolate(tensor.float(), size=_NATIVE, mode="bicubic", align_corners=False)}


@register(pyramid(lambda *_, **__: (64, 128, 256, 512)), inputs=(3,))
def cat_tiny(channels: int = 3, pretrained: str | None = None, normed: Sequence[int] = (0, 1, 2, 3)) -> CAT:
    """CAT-T: width 64, blocks 1-1-3-1, heads from 2."""
    return CAT(channels, 64, normed, pretrained=pretrained)


@register(pyramid(lambda *_, **__: (96, 192, 384, 768)), inputs=(3,))
def cat_small(channels: int = 3, pretrained: str | None = None, normed: Sequence[int] = (0, 1, 2, 3)) -> CAT:
    """CAT-S: width 96, blocks 1-1-3-1, heads from 3."""
    return CAT(channels, 96, normed, pretrained=pretrained)


@register(pyramid(lambda *_, **__: (96, 192, 384, 768)), inputs=(3,))
def cat_base(channels: int = 3, pretrained: str | None = None, normed: Sequence[int] = (0, 1, 2, 3)) -> CAT:
    """CAT-B: width 96, blocks 1-1-6-1, heads from 3."""
    return CAT(channels, 96, normed, (1, 1, 6, 1), pretrained=pretrained)
