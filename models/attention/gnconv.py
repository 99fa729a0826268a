"""Recursive gated convolution and the HorNet block (Rao et al., NeurIPS 2022, arXiv:2207.14284)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.attention.tokens import DropPath
from models.layers.csp import C3
from models.layers.norm import ChannelNorm
from models.layers.residual import init_transformer_weights
from models.registry import preserve, register, stack


def resized_spectrum(table: Tensor, h: int, w: int) -> Tensor:
    """Resize a (D, h', w', 2) table bilinearly to (D, h, w, 2), align_corners=True, as the authors do; unchanged at its own size."""
    return F.interpolate(table.permute(3, 0, 1, 2), size=(h, w), mode="bilinear", align_corners=True).permute(1, 2, 3, 0)


@register(preserve, example=(7, 5))
class GlobalLocalFilter(nn.Module):
    """Global-local filter, HorNet's "GF" spatial mixer (arXiv:2207.14284, section 3.2).

    Half of the channels pass a 3x3 depthwise convolution, the other half are multiplied by a learned table in the Fourier
    domain, which is a circular convolution over the whole map; the halves are interleaved.

    Args:
        channels: width D of input and output.
        h: rows of the learned spectrum, H of the native map.
        w: columns of the learned spectrum, W // 2 + 1 of the native map.

    Shape:
        (B, D, H, W) -> (B, D, H, W), any H, W >= 1; at other than the native size the spectrum is resized bilinearly
    """

    def __init__(self, channels: int, h: int = 14, w: int = 8) -> None:
        super().__init__()
        positive(self, channels=channels, h=h, w=w)
        # With an odd width the global half has one channel more.
        self.local = channels // 2
        self.dw = nn.Conv2d(self.local, self.local, 3, padding=1, groups=max(self.local, 1), bias=False)
        self.complex_weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(channels - self.local, h, w, 2), std=0.02))
        self.pre_norm = ChannelNorm(channels)
        self.post_norm = ChannelNorm(channels)

    def spectrum(self, height: int, width: int) -> Tensor:
        """Return the complex table (D/2, height, width // 2 + 1)."""
        size = (height, width // 2 + 1)
        table = self.complex_weight.float()
        # A trace always includes the resizing, which changes nothing at the native size, so that it works at other sizes.
        if torch.jit.is_tracing() or table.shape[1:3] != size:  # type: ignore[attr-defined, no-untyped-call]
            table = resized_spectrum(table, *size)
        return torch.view_as_complex(table.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = self.pre_norm(x)
        near, far = x.split((self.local, x.shape[1] - self.local), 1)
        near = self.dw(near) if self.local else near
        # Half-precision FFTs support powers of two only; autocast ignores FFTs, so this branch is computed in float32.
        waves = torch.fft.rfft2(far.float(), dim=(2, 3), norm="ortho") * self.spectrum(height, width)
        far = torch.fft.irfft2(waves, s=(height, width), dim=(2, 3), norm="ortho").to(near.dtype)
        pairs = torch.stack((near, far[:, : self.local]), 2).flatten(1, 2)
        return self.post_norm(torch.cat((pairs, far[:, self.local :]), 1))


@register(preserve, example=(3,))
class GnConv(nn.Module):
    """Recursive gated convolution of order n (arXiv:2207.14284, eq. 3.2-3.4).

    n - 1 gated steps whose widths double give interactions of order n at the cost of about one convolution.

    Alone its weights start as PyTorch's, as in the authors' file: with HorNet's truncated normal of 0.02 and no norm or residual around it,
    the output for an input of deviation 1 would have one of 1e-10. `HorBlock` and `HorFPN` start as the authors' networks.

    Args:
        channels: width C of input and output.
        order: n, the number of gates.
        s: scale of the depthwise output; 1/3 in every released HorNet (the widely copied default of 1 is not what was trained).
        gf: use `GlobalLocalFilter` instead of the 7x7 depthwise convolution.
        h, w: the filter's native spectrum.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an order below 1.
    """

    def __init__(self, channels: int, order: int = 5, s: float = 1 / 3, gf: bool = False, h: int = 14, w: int = 8) -> None:
        super().__init__()
        positive(self, order=order)
        # Coarse to fine: C / 2^(n-1), ..., C / 2, C. Rounded down, at least 1.
        self.widths = [max(channels >> (order - 1 - k), 1) for k in range(order)]
        total = sum(self.widths)
        self.scale = s
        self.proj_in = nn.Conv2d(channels, self.widths[0] + total, 1)
        self.dwconv: nn.Module = GlobalLocalFilter(total, h, w) if gf else nn.Conv2d(total, total, 7, padding=3, groups=total)
        self.proj_out = nn.Conv2d(channels, channels, 1)
        self.pws = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(self.widths, self.widths[1:], strict=False))

    def _gates(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The first features to be gated, and the gates, the last of which has C channels."""
        first, rest = self.proj_in(x).split((self.widths[0], sum(self.widths)), 1)
        return first, (self.dwconv(rest) * self.scale).split(self.widths, 1)

    def attention(self, x: Tensor) -> Tensor:
        """The magnitude of the last gate, (B, C, H, W)."""
        return self._gates(x)[1][-1].abs()

    def forward(self, x: Tensor) -> Tensor:
        x, (first, *others) = self._gates(x)
        x = x * first
        for widen, other in zip(self.pws, others, strict=True):
            x = widen(x) * other
        return self.proj_out(x)


@register(preserve, example=(3,))
class HorBlock(nn.Module):
    """HorNet block: gnConv and an MLP, each with LayerNorm, layer scale and a residual (arXiv:2207.14284, section 3.3).

    Weights start as truncated normal of deviation 0.02, biases at zero, as in HorNet. gnConv and the MLP have 12 C^2 weights a pixel, a 3x3
    convolution 9: with the depthwise 7x7 it takes more than 2x its time.

    Args:
        channels: width C of input and output.
        order, s, gf, h, w: as in `GnConv`.
        layer_scale: initial value of the per-channel scales; 0 for none.
        drop_path: probability of dropping a residual branch for a sample in training.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(
        self,
        channels: int,
        order: int = 5,
        s: float = 1 / 3,
        gf: bool = False,
        h: int = 14,
        w: int = 8,
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.gnconv = GnConv(channels, order, s, gf, h, w)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.drop_path = DropPath(drop_path)
        self.gamma1: nn.Parameter | None = None
        self.gamma2: nn.Parameter | None = None
        if layer_scale > 0:
            self.gamma1 = nn.Parameter(torch.full((channels,), layer_scale))
            self.gamma2 = nn.Parameter(torch.full((channels,), layer_scale))
        init_transformer_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.gnconv(self.norm1(x))
        if self.gamma1 is not None:
            mixed = mixed * self.gamma1.view(-1, 1, 1)
        x = x + self.drop_path(mixed)
        tokens = self.norm2(x.permute(0, 2, 3, 1))  # (B, H, W, C)
        tokens = self.pwconv2(F.gelu(self.pwconv1(tokens)))
        if self.gamma2 is not None:
            tokens = tokens * self.gamma2
        return x + self.drop_path(tokens.permute(0, 3, 1, 2))


def order_of(channels: int) -> int:
    """The order, 2 to 5, at which the coarsest step of `GnConv` has about eight channels, the minimum in HorNet."""
    return min(max((channels // 8).bit_length(), 2), 5)


@register(stack, example=(48,))
class C3Hor(C3):
    """`C3` with `HorBlock` inside.

    Args:
        c1, c2, n, e: as in `C3`.
        shortcut: has no effect; the block has its own residuals.
        order: of the gnConv; None depends on the inner width: 2 up to 31, 3 up to 63, 4 up to 127, then 5.
        s, gf, h, w, drop_path: as in `HorBlock`.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W), any H, W >= 1
    """

    def __init__(  # noqa: PLR0913
        self,
        c1: int,
        c2: int,
        n: int = 1,
        shortcut: bool = True,  # noqa: ARG002 - a row of C3 keeps its arguments
        order: int | None = None,
        s: float = 1 / 3,
        gf: bool = False,
        h: int = 14,
        w: int = 8,
        e: float = 0.5,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(c1, c2, 0, e=e)
        inner = int(c2 * e)
        order = order_of(inner) if order is None else order
        self.m = nn.Sequential(*(HorBlock(inner, order, s, gf, h, w, drop_path=drop_path) for _ in range(n)))
