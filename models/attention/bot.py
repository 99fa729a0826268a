"""Multi-head self-attention over a map, and the Bottleneck Transformer (Srinivas et al., CVPR 2021, arXiv:2101.11605)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.position import AbsolutePosition, RelativePosition, pair
from models.layers.conv import Conv, batch_norm
from models.layers.csp import C3
from models.layers.norm import factor_and_shift
from models.layers.residual import init_resnet_weights
from models.layers.transformer import attention_weights
from models.registry import LayerPlan, Row, Scale, Width, only, project, register, stack

Position = Literal["relative", "absolute"] | None


def _own_width(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """C -> heads x dim_head, or C where that is None."""
    width = only(row, inputs)
    given = {"heads": 4, "dim_head": 128} | dict(zip(("heads", "dim_head"), row.args, strict=False)) | dict(row.keywords)
    heads, dim_head = given["heads"], given["dim_head"]
    # The constructor rejects other types.
    out = heads * dim_head if isinstance(heads, int) and isinstance(dim_head, int) else width
    return LayerPlan((width, *row.args), out, scale.repeats(row.repeats), (out, *row.args))


@register(_own_width, example=(4, 8, (6, 6)))
class MHSA(nn.Module):
    """Multi-head self-attention over all positions of a map (arXiv:2101.11605, figure 4).

    Projections have no bias and there is no output projection, as in the paper. The position logits use the scaled query. Projections
    start as N(0, 0.01), as the authors', position tables as N(0, 1 / d). The N x N logits of each head, of content and of position, take
    it to 2x a 3x3 convolution's time on a map of 20 x 20.

    Args:
        channels: width C of the input.
        heads: number n of heads.
        dim_head: width d of a head; None gives C / n, so that the width is kept.
        fmap_size: native (height, width) of the position tables, or the side of a square; other sizes slice or interpolate them.
        position: "relative", "absolute" or None.

    Shape:
        (B, C, H, W) -> (B, n * d, H, W), any H, W >= 1

    Raises:
        ValueError: a number below 1, heads that do not divide the width where dim_head is None, or an unknown kind of position.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        dim_head: int | None = 128,
        fmap_size: tuple[int, int] | int = (20, 20),
        position: Position = "relative",
    ) -> None:
        super().__init__()
        positive(self, heads=heads, dim_head=dim_head)
        fmap_size = pair(fmap_size)
        if dim_head is None and channels % heads:
            fit = max(n for n in range(1, min(heads, channels) + 1) if channels % n == 0)
            raise ValueError(f"MHSA: {heads} heads do not divide {channels} channels; {fit} would, or give dim_head")
        if position not in ("relative", "absolute", None):
            raise ValueError(f"MHSA: position must be 'relative', 'absolute' or None, not {position!r}")
        self.heads = heads
        self.dim_head = channels // heads if dim_head is None else dim_head
        self.to_qkv = nn.Conv2d(channels, 3 * heads * self.dim_head, 1, bias=False)
        nn.init.normal_(self.to_qkv.weight, std=0.01)
        self.pos_emb: nn.Module | None = None
        if position == "relative":
            self.pos_emb = RelativePosition(fmap_size, self.dim_head)
        elif position == "absolute":
            self.pos_emb = AbsolutePosition(fmap_size, self.dim_head)

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Scaled queries, keys and values, (B, n, H * W, d), and the position logits, (B, n, H * W, H * W)."""
        height, width = x.shape[2:]
        qkv = self.to_qkv(x).unflatten(1, (3, self.heads, self.dim_head)).flatten(4)  # (B, 3, n, d, H * W)
        q, k, v = qkv.transpose(3, 4).contiguous().unbind(1)  # the fused kernels need the d numbers of a pixel contiguous
        q = q * self.dim_head**-0.5
        mask: Tensor | None = None
        if isinstance(self.pos_emb, RelativePosition):
            mask = self.pos_emb(q, height, width).to(q.dtype)
        elif self.pos_emb is not None:
            # q.(k + e) = q.k + q.e: an absolute position is part of the key.
            k = k + self.pos_emb(height, width).to(k.dtype)
        return q, k, v, mask

    def attention(self, x: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        """Attention weights for the query in row and column `at`, or the mean over all queries: (B, n, H, W), sum to 1."""
        q, k, _, mask = self._projected(x)
        return attention_weights(q, k, None if at is None else at[0] * x.shape[3] + at[1], mask).unflatten(2, x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        q, k, v, mask = self._projected(x)
        if mask is not None and mask.requires_grad and not x.is_cuda:
            # The CPU has no fused kernel for a mask that requires a gradient. baddbmm adds the mask without a second logits tensor.
            logits = torch.baddbmm(mask.flatten(0, 1), q.flatten(0, 1), k.flatten(0, 1).mT)
            out = torch.bmm(logits.softmax(-1), v.flatten(0, 1)).unflatten(0, q.shape[:2])
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        return out.transpose(2, 3).reshape(batch, self.heads * self.dim_head, height, width)

    @torch.no_grad()
    def absorb(self, norm: nn.BatchNorm2d) -> None:
        """Fold a batch norm of the output, in evaluation mode, into the values: the attention weights of a pixel sum to 1."""
        factor, shift = factor_and_shift(norm)
        width = self.heads * self.dim_head
        self.to_qkv.weight[2 * width :] *= factor.view(-1, 1, 1, 1)
        self.to_qkv.bias = nn.Parameter(torch.cat((shift.new_zeros(2 * width), shift)))


def init_bot_weights(network: nn.Module) -> None:
    """Kaiming-normal convolutions (fan in), and the projections of attention as `MHSA` has them, as in the authors' code."""
    init_resnet_weights(network, "fan_in")
    for module in network.modules():
        if isinstance(module, MHSA):
            nn.init.normal_(module.to_qkv.weight, std=0.01)


@register(project, example=(32, (6, 8), 4, False, 2, 8))
class BottleneckTransformer(nn.Module):
    """Bottleneck block whose 3x3 convolution is self-attention (arXiv:2101.11605, section 3, figure 3).

    Convolutions start Kaiming-normal (fan in), the last norm at zero, as the authors'. Its cost is that of `MHSA`.

    Args:
        channels: width of the input.
        dim_out: width of the output.
        fmap_size: native (height, width) of the input map.
        proj_factor: dim_out over the width of the bottleneck.
        downsample: halve the map by a 2x2 average pool after the attention; odd sizes round up, padding is not averaged.
        heads, dim_head, position: as in `MHSA`.

    Shape:
        (B, channels, H, W) -> (B, dim_out, H, W), or (B, dim_out, ceil(H / 2), ceil(W / 2)) with downsample
    """

    def __init__(
        self,
        channels: int,
        dim_out: int,
        fmap_size: tuple[int, int] | int = (20, 20),
        proj_factor: int = 4,
        downsample: bool = False,
        heads: int = 4,
        dim_head: int = 128,
        position: Position = "relative",
    ) -> None:
        super().__init__()
        if not 1 <= proj_factor <= dim_out:
            raise ValueError(f"BottleneckTransformer: proj_factor must be 1 to dim_out, {dim_out}, not {proj_factor}")
        stride = 2 if downsample else 1
        self.shortcut: nn.Module = nn.Identity()
        if channels != dim_out or downsample:
            # The authors' 1x1, not the 3x3 of a popular port, which adds 16.8M parameters at 1024 -> 2048.
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, dim_out, 1, stride=stride, bias=False), nn.BatchNorm2d(dim_out), nn.ReLU(inplace=True)
            )
        inner, width = dim_out // proj_factor, heads * dim_head
        self.net = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            MHSA(inner, heads, dim_head, fmap_size, position),
            nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False) if downsample else nn.Identity(),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, dim_out, 1, bias=False),
            nn.BatchNorm2d(dim_out),
        )
        init_bot_weights(self)
        last = self.net[-1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.net(x) + self.shortcut(x))

    def fuse(self) -> None:
        """Fold the batch norm after the attention into its values; an average pool between them changes nothing."""
        attention, norm = self.net[3], self.net[5]
        if isinstance(norm, nn.BatchNorm2d):
            assert isinstance(attention, MHSA)
            attention.absorb(norm)
            self.net[5] = nn.Identity()


@register(project, example=(32, (6, 8), 4, 2, True, 2, 8))
class BottleStack(nn.Module):
    """A stage of `BottleneckTransformer` blocks; the first may halve the map, the others see the halved one.

    A stage is several blocks: three take more than 2x a 3x3 convolution's time.

    Args:
        channels, dim_out, fmap_size, proj_factor, downsample, heads, dim_head, position: as in the block.
        num_layers: number of blocks.

    Shape:
        as the block
    """

    def __init__(
        self,
        channels: int,
        dim_out: int,
        fmap_size: tuple[int, int] | int = (20, 20),
        proj_factor: int = 4,
        num_layers: int = 3,
        downsample: bool = True,
        heads: int = 4,
        dim_head: int = 128,
        position: Position = "relative",
    ) -> None:
        super().__init__()
        positive(self, num_layers=num_layers)
        height, width = pair(fmap_size)
        half = ((height + 1) // 2, (width + 1) // 2) if downsample else (height, width)
        first = BottleneckTransformer(channels, dim_out, fmap_size, proj_factor, downsample, heads, dim_head, position)
        others = [
            BottleneckTransformer(dim_out, dim_out, half, proj_factor, False, heads, dim_head, position) for _ in range(num_layers - 1)
        ]
        self.net = nn.Sequential(first, *others)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class BoTInner(nn.Module):
    """The inner block of `C3BoT`: 1x1 `Conv`, attention, batch norm, SiLU, residual.

    Args:
        width: width of input and output.
        shortcut: add the input.
        heads, fmap_size, position: as in `MHSA`.

    Shape:
        (B, width, H, W) -> the same
    """

    def __init__(self, width: int, shortcut: bool, heads: int, fmap_size: tuple[int, int] | int, position: Position) -> None:
        super().__init__()
        self.cv1 = Conv(width, width, 1)
        self.mhsa = MHSA(width, heads, None, fmap_size, position)
        self.bn: nn.Module = batch_norm(width)
        self.act = nn.SiLU(inplace=True)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn(self.mhsa(self.cv1(x))))
        return x + y if self.add else y

    def fuse(self) -> None:
        """Fold the batch norm into the attention's values."""
        if isinstance(self.bn, nn.BatchNorm2d):
            self.mhsa.absorb(self.bn)
            self.bn = nn.Identity()


@register(stack, example=(48,))
class C3BoT(C3):
    """`C3` whose inner 3x3 convolutions are self-attention over all positions.

    Args:
        c1, c2, n, shortcut, e: as in `C3`.
        heads: must divide the inner width; None is gcd(inner width, 4).
        fmap_size, position: as in `MHSA`.

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
        shortcut: bool = True,
        heads: int | None = None,
        fmap_size: tuple[int, int] | int = (20, 20),
        position: Position = "relative",
        e: float = 0.5,
    ) -> None:
        super().__init__(c1, c2, 0, e=e)
        inner = int(c2 * e)
        heads = math.gcd(inner, 4) if heads is None else heads
        self.m = nn.Sequential(*(BoTInner(inner, shortcut, heads, fmap_size, position) for _ in range(n)))
