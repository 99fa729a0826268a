"""CAT as a backbone (Lin et al., ICME 2022, arXiv:2106.05786)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import four_stages
from models.attention.cat import CAB, heads_of
from models.attention.tokens import rising
from models.backbones.normed import NormedPyramid, publish
from models.backbones.pretrained import State
from models.layers.fuse import pad_to_multiple
from models.layers.norm import ChannelNorm
from models.layers.residual import init_transformer_weights
from models.registry import pyramid, register

_NATIVE = (56, 56)
"""Map size of the position embedding, that of an image of 224 pixels."""


class _Embedding(nn.Module):
    """4x4 convolution of stride 4 and LayerNorm; the image is padded to multiples of 4."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, 4, stride=4)
        self.norm = ChannelNorm(width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(pad_to_multiple(x, 4)))


class PatchProjection(nn.Module):
    """Halve the map: 2x2 pixels to channels, LayerNorm, linear layer to twice the width (section 3.4).

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


class _Stage(CAB):
    """Cross attention blocks, and the patch projection after them: the authors' names have no level between stage and lists."""

    def __init__(self, channels: int, heads: int, patch: int, rates: Sequence[float], shrink: bool) -> None:
        super().__init__(channels, heads, patch, len(rates), rates)
        self.downsample: nn.Module = PatchProjection(channels) if shrink else nn.Identity()


def cat_widths(channels: int = 3, embed: int = 64, *_: object, **__: object) -> tuple[int, ...]:  # noqa: ARG001
    """Widths of the outputs, for the constructor's arguments."""
    return embed, 2 * embed, 4 * embed, 8 * embed


@register(pyramid(cat_widths, scaled=True), example=(8, (0, 1, 2, 3), (1, 1, 1, 1), 1, 3), inputs=(3,))
class CAT(NormedPyramid):
    """Cross attention transformer: four stages of CAB (section 3.4, table 1), outputs normed as in the authors' detectors.

    Args:
        channels: width of the image.
        embed: width C of the first stage; the others have 2C, 4C, 8C. In a YAML it is scaled by the model's width.
        normed: outputs with a norm; an output that no row reads should have none, since it would never be trained.
        depths: blocks per stage.
        heads: of the first stage, doubled in each further one; None is `heads_of(embed)`.
        patch_size: side of the patches.
        drop_path: stochastic depth of the last block, growing linearly from 0; 0.1, 0.2 and 0.3 for T, S and B in the paper.
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
        self.ape = nn.Parameter(torch.zeros(1, embed, *_NATIVE))  # resized to the size of the map
        nn.init.trunc_normal_(self.ape, std=0.02)
        heads = heads_of(embed) if heads is None else heads
        rates = iter(rising(drop_path, sum(depths)))
        self.layers = nn.ModuleList(
            _Stage(embed * 2**i, heads * 2**i, patch_size, [next(rates) for _ in range(depth)], i < 3) for i, depth in enumerate(depths)
        )
        self.add_norms(cat_widths(channels, embed), normed, eps=1e-5)
        init_transformer_weights(self, (nn.Linear,))
        if pretrained:
            self.load(pretrained, _position, own=("ape",))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.patch_embed(x)
        position: Tensor = self.ape
        if torch.jit.is_tracing() or position.shape[2:] != x.shape[2:]:  # type: ignore[attr-defined, no-untyped-call]
            position = F.interpolate(position.float(), size=x.shape[2:], mode="bicubic", align_corners=False).to(x.dtype)
        x = x + position
        outputs = []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            outputs.append(self.output(i, x))
            x = stage.get_submodule("downsample")(x)
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


cat_tiny = publish("cat_tiny", CAT, 64)
cat_small = publish("cat_small", CAT, 96)
cat_base = publish("cat_base", CAT, 96, depths=(1, 1, 6, 1))
