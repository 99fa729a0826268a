"""ACmix: self-attention and convolution from the same projections (Pan et al., CVPR 2022, arXiv:2111.14556)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.arguments import odd, positive
from models.registry import preserve, register


def mirrored(length: Tensor, edge: int) -> Tensor:
    """Indices that extend `length` positions by `edge` on either side, mirrored at the border as often as it takes: (length + 2 edge,).

    Args:
        length: 0, 1, ... of the positions; a tensor, so that a trace holds for every size.
        edge: positions to add.
    """
    last = length[-1]
    place = torch.cat(
        (length[:1] + torch.arange(-edge, 0, device=length.device), length, last + 1 + torch.arange(edge, device=length.device))
    )
    turn = place.remainder((2 * last).clamp(min=1))
    return torch.minimum(turn, 2 * last - turn)


class _Axis:
    """Indices of the mirrored positions of an axis, and how far each is, in the axis's span -1..1, from those in its window."""

    def __init__(self, length: int, size: int, device: torch.device) -> None:
        index = torch.arange(length, device=device)
        self.padded = mirrored(index, size // 2)
        step = 2 / index[-1].clamp(min=1)
        self.offsets = [(index - self.padded[tap : tap + length]) * step for tap in range(size)]


@register(preserve, example=(3, 2))
class ACmix(nn.Module):
    """ACmix (arXiv:2111.14556, section 4): local self-attention and a convolution share their 1x1 projections; two scalars mix them.

    Names of members, initial values and the mirrored border are those of the authors' code; its bias of the position term has no
    effect and is left out. The attention's kernel_att^2 taps are element-wise products and so bound by memory: of narrow maps it takes
    more than 2x a 3x3 convolution's time, with few operations.

    Args:
        channels: width C of input and output.
        kernel_att: side of the window a position attends to, odd.
        head: number of heads; as many of them as divide C.
        kernel_conv: side of the convolution, odd.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, channels: int, kernel_att: int = 7, head: int = 4, kernel_conv: int = 3) -> None:
        super().__init__()
        positive(self, head=head)
        odd(self, kernel_att=kernel_att, kernel_conv=kernel_conv)
        self.head, self.kernel_att = math.gcd(channels, head), kernel_att
        width, taps = channels // self.head, kernel_conv**2
        self.rate1, self.rate2 = nn.Parameter(torch.full((1,), 0.5)), nn.Parameter(torch.full((1,), 0.5))
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.conv_p = nn.Conv2d(2, width, 1, bias=False)
        self.fc = nn.Conv2d(3 * self.head, taps, 1, bias=False)
        self.dep_conv = nn.Conv2d(taps * width, channels, kernel_conv, padding=kernel_conv // 2, groups=width)
        # The convolution starts as the shifts of figure 2: tap t of a group moves its map by t's place in the kernel.
        nn.init.zeros_(self.dep_conv.weight)
        with torch.no_grad():
            for tap in range(taps):
                self.dep_conv.weight[:, tap, tap // kernel_conv, tap % kernel_conv] = 1
        assert self.dep_conv.bias is not None
        nn.init.zeros_(self.dep_conv.bias)

    def _weights(self, q: Tensor, k: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
        """Attention weights of each position's window, row-major: (B * heads, d, H, W) twice -> (B * heads, kernel_att^2, H, W)."""
        height, width = q.shape[2:]
        q = q * q.shape[1] ** -0.5
        # q.(pe_i - pe_j), and pe is linear in the position: two numbers a pixel.
        along = torch.einsum("ndyx,dc->ncyx", q, self.conv_p.weight[:, :, 0, 0].to(q.dtype))
        padded = k[:, :, rows.padded][..., columns.padded]
        logits = []
        for a, up in enumerate(rows.offsets):
            for b, left in enumerate(columns.offsets):
                seen = (q * padded[:, :, a : a + height, b : b + width]).sum(1)
                logits.append(seen + along[:, 0] * left.to(q.dtype) + along[:, 1] * up[:, None].to(q.dtype))
        return torch.stack(logits, 1).softmax(1)

    def _attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, channels, height, width = q.shape
        q, k, v = (t.reshape(batch * self.head, -1, height, width) for t in (q, k, v))
        rows, columns = _Axis(height, self.kernel_att, q.device), _Axis(width, self.kernel_att, q.device)
        weights = self._weights(q, k, rows, columns).to(v.dtype)
        padded = v[:, :, rows.padded][..., columns.padded]
        out = torch.zeros_like(v)
        for tap in range(self.kernel_att**2):
            a, b = divmod(tap, self.kernel_att)
            out = out + padded[:, :, a : a + height, b : b + width] * weights[:, tap, None]
        return out.reshape(batch, channels, height, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        q, k, v = self.conv1(x), self.conv2(x), self.conv3(x)
        parts = torch.cat([t.reshape(batch, self.head, -1, height * width) for t in (q, k, v)], 1)
        shared = self.fc(parts).transpose(1, 2).reshape(batch, -1, height, width)  # (B, d * taps, H, W)
        return self.rate1 * self._attended(q, k, v) + self.rate2 * self.dep_conv(shared)
