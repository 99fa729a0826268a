"""Slim-neck: GSConv and the cross-stage-partial block built of it (Li et al., J. Real-Time Image Processing 2024, arXiv:2206.02424)."""

from __future__ import annotations

from torch import Tensor, nn

from models.arguments import multiple, positive
from models.layers.conv import Conv
from models.layers.join import join
from models.registry import project, register, stack


@register(project, example=(48, 3, 2))
class GSConv(nn.Module):
    """Half the channels by a convolution, the others from them by a depthwise 5x5, then a shuffle (arXiv:2206.02424, figure 3).

    The shuffle puts the channels of even number before those of odd number, so that each half of the output has some of both kinds.

    Args:
        c1: input width.
        c2: output width, even.
        k: kernel size.
        s: stride.
        g: groups.
        act: as in `Conv`.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')

    Raises:
        ValueError: an odd output width.
    """

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: bool | nn.Module | None = True) -> None:
        super().__init__()
        multiple(self, 2, c2=c2)
        self.cv1 = Conv(c1, c2 // 2, k, s, g=g, act=act)
        self.cv2 = Conv(c2 // 2, c2 // 2, 5, g=c2 // 2, act=act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        y = join(y, self.cv2(y))
        return join(y[:, ::2], y[:, 1::2])


class GSBottleneck(nn.Module):
    """Two `GSConv`, 1x1 and 3x3, and a 1x1 shortcut (arXiv:2206.02424, figure 5a).

    Args:
        channels: width C of input and output, even.

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(GSConv(channels, channels), GSConv(channels, channels, 3, act=False))
        self.shortcut = Conv(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


@register(stack, example=(48,))
class VoVGSCSP(nn.Module):
    """One-shot aggregation of GS bottlenecks (arXiv:2206.02424, figure 5b): half the width goes through them, half passes by.

    Args:
        c1: input width.
        c2: output width.
        n: GS bottlenecks.
        shortcut: has no effect; each bottleneck has its own.
        e: inner width as a share of c2; the inner width is rounded up to an even number.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, e: float = 0.5) -> None:  # noqa: ARG002 - a row of C3 keeps its arguments
        super().__init__()
        inner = int(c2 * e)
        positive(self, c2=inner)
        inner += inner % 2
        self.cv1 = Conv(c1, inner)
        self.cv2 = Conv(c1, inner)
        self.cv3 = Conv(2 * inner, c2)
        self.m = nn.Sequential(*(GSBottleneck(inner) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(join(self.cv2(x), self.m(self.cv1(x))))
