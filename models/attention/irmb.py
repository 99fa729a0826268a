"""EMO's inverted residual mobile block (Zhang et al., ICCV 2023, arXiv:2301.01146)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.attention.heads import heads_for
from models.attention.windows import unwindowed, windows
from models.layers.conv import batch_norm
from models.layers.norm import ChannelNorm
from models.registry import preserve, register


@register(preserve, name="iRMB", example=(2, 3))
class InvertedResidualMobileBlock(nn.Module):
    """Inverted residual mobile block (arXiv:2301.01146, eq. 1-4): window attention on a widened value, a depthwise convolution, a residual.

    n = norm(x); v = silu(n W_e), wider than x; the attention of q and k, of x's width, mixes v in windows; y = v' + silu(norm(dw(v'))),
    x + y W_s. Maps are padded with zeros, right and bottom.

    The windows' values, the depthwise convolution and SiLU work on four times the width: bound by memory, it takes more than 2x a
    3x3 convolution's time.

    Args:
        channels: width C of input and output.
        heads: as in `MUSE`.
        size: side of a window; 7 in the paper.
        expansion: width of v / C.
        kernel_size: of the depthwise convolution, odd.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the width, or an even kernel.
    """

    def __init__(self, channels: int, heads: int | None = None, size: int = 7, expansion: int = 4, kernel_size: int = 3) -> None:
        super().__init__()
        positive(self, size=size, expansion=expansion)
        odd(self, kernel_size=kernel_size)
        self.heads, self.size = heads_for(self, channels, heads), size
        inner = channels * expansion
        self.norm = ChannelNorm(channels)
        self.qk, self.widen = nn.Conv2d(channels, 2 * channels, 1), nn.Sequential(nn.Conv2d(channels, inner, 1), nn.SiLU())
        depthwise = nn.Conv2d(inner, inner, kernel_size, padding=kernel_size // 2, groups=inner, bias=False)
        self.local = nn.Sequential(depthwise, batch_norm(inner), nn.SiLU())
        self.narrow = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        parts = (*self.qk(n).chunk(2, 1), self.widen(n))
        q, k, v = (windows(t, self.size).unflatten(3, (self.heads, -1)).transpose(2, 3) for t in parts)  # (B, windows, heads, n, d)
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).flatten(3)
        y = unwindowed(y, self.size, x)
        return x + self.narrow(y + self.local(y))
