"""LSKNet, of large selective kernels (Li et al., ICCV 2023, arXiv:2303.09030)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import four_stages
from models.attention.large_kernel import LSK
from models.backbones.pretrained import load_pretrained
from models.layers.conv import fold_before, fold_members
from models.layers.norm import ChannelNorm
from models.registry import pyramid, register


def lsknet_widths(channels: int = 3, base: int = 32, *_: object, **__: object) -> tuple[int, ...]:  # noqa: ARG001
    """Widths of the outputs, for the constructor's arguments."""
    return base, 2 * base, 5 * base, 8 * base


class _Attention(nn.Module):
    """1x1, GELU, large selective kernel, 1x1, and a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj_1, self.proj_2 = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.spatial_gating_unit = LSK(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x))))


class _Depthwise(nn.Module):
    """A depthwise 3x3, with the authors' state_dict keys."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x)


class _Mlp(nn.Module):
    """1x1, depthwise 3x3, GELU, 1x1."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels * ratio, 1), nn.Conv2d(channels * ratio, channels, 1)
        self.dwconv = _Depthwise(channels * ratio)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))


class LSKBlock(nn.Module):
    """A block of LSKNet (arXiv:2303.09030, figure 3): batch norm and attention, batch norm and MLP, each with a layer scale.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.norm2: nn.Module = nn.BatchNorm2d(channels)
        self.attn, self.mlp = _Attention(channels), _Mlp(channels, ratio)
        self.layer_scale_1, self.layer_scale_2 = (nn.Parameter(torch.full((channels,), 1e-2)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer_scale_1[:, None, None] * self.attn(self.norm1(x))
        return x + self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x))

    def fuse(self) -> None:
        """Fold the second batch norm into the 1x1 behind it; the attention's residual reads the first one, too."""
        if isinstance(self.norm2, nn.BatchNorm2d):
            fold_before(self.norm2, self.mlp.fc1)
            self.norm2 = nn.Identity()


class _Shrink(nn.Module):
    """A convolution and batch norm."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(channels, out, kernel, stride, kernel // 2), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))

    def fuse(self) -> None:
        """Fold the batch norm."""
        fold_members(self, ("proj", "norm"))


@register(pyramid(lsknet_widths, scaled=True), example=(8, (1, 1, 1, 1)), inputs=(3,))
class LSKNet(nn.Module):
    """LSKNet (arXiv:2303.09030, table 1): four stages of `LSKBlock`, each with a layer norm at its end.

    Args:
        channels: width of the image.
        base: width C of the first stage, 32 in T and 64 in S. In a YAML it is scaled by the model's width.
        depths: blocks of each stage.
        ratios: inner width of each stage's MLPs / its width.
        pretrained: an authors' checkpoint.

    Shape:
        (B, channels, H, W) -> four maps of strides 4, 8, 16, 32 and widths C, 2C, 5C, 8C, sizes rounded up
    """

    def __init__(
        self,
        channels: int = 3,
        base: int = 32,
        depths: Sequence[int] = (3, 3, 5, 2),
        ratios: Sequence[int] = (8, 8, 4, 4),
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        four_stages(self, depths)
        widths = (channels, *lsknet_widths(channels, base))
        for i, ((narrow, wide), depth, ratio) in enumerate(zip(pairwise(widths), depths, ratios, strict=True), 1):
            self.add_module(f"patch_embed{i}", _Shrink(narrow, wide, 7 if i == 1 else 3, 4 if i == 1 else 2))
            self.add_module(f"block{i}", nn.Sequential(*(LSKBlock(wide, ratio) for _ in range(depth))))
            self.add_module(f"norm{i}", ChannelNorm(wide))
        if pretrained:
            load_pretrained(self, pretrained, unused=("head.",))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for i in range(1, 5):
            x = self.get_submodule(f"norm{i}")(self.get_submodule(f"block{i}")(self.get_submodule(f"patch_embed{i}")(x)))
            outputs.append(x)
        return outputs


def _publish(name: str, base: int, depths: tuple[int, ...]) -> Callable[..., LSKNet]:
    """Register a published size as ``name(channels, pretrained)``."""

    def build(channels: int = 3, pretrained: str | None = None) -> LSKNet:
        return LSKNet(channels, base, depths, pretrained=pretrained)

    build.__name__ = build.__qualname__ = name
    return register(pyramid(lambda *_, **__: lsknet_widths(3, base)), inputs=(3,))(build)


lsknet_t = _publish("lsknet_t", 32, (3, 3, 5, 2))
lsknet_s = _publish("lsknet_s", 64, (2, 2, 4, 2))
