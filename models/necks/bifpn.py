"""BiFPN: a pyramid that goes down and up again, with weighted sums (Tan et al., CVPR 2020, arXiv:1911.09070)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import batch_norm
from models.necks.fusion import Concat_bifpn
from models.necks.horfpn import level_widths
from models.registry import register


def _sized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="nearest")


class _Layer(nn.Module):
    """Down through the levels, then up again, each node a `Concat_bifpn`."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(Concat_bifpn(2, width, width) for _ in range(levels - 1))
        self.up = nn.ModuleList(Concat_bifpn(2 if i == levels - 1 else 3, width, width) for i in range(1, levels))

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        middle = [x[-1]]
        for i in reversed(range(len(x) - 1)):
            middle.insert(0, self.down[i]([x[i], _sized(middle[0], x[i])]))
        outputs = middle[:1]
        for i in range(1, len(x)):
            finer = _sized(F.max_pool2d(outputs[-1], 3, 2, 1), x[i])
            outputs.append(self.up[i - 1]([x[i], finer] if i == len(x) - 1 else [x[i], middle[i], finer]))
        return outputs


@register(level_widths, example=(16, 2), inputs=(8, 16, 32))
class BiFPN(nn.Module):
    """Weighted bidirectional feature pyramid (arXiv:1911.09070, section 3, figure 2d): the whole neck in one row.

    Its nodes are `Concat_bifpn`: fast normalised sums of a level, what comes down, and, on the way up, the level's own input.

    Args:
        channels: widths of the levels, finest first, two or more; a 1x1 with batch norm brings each to `out`.
        out: width of every output; 64 to 384 in EfficientDet.
        layers: times down and up; 3 to 8 in EfficientDet.

    Shape:
        list of (B, C_i, H_i, W_i), each about half the size of the one before -> list of (B, out, H_i, W_i)

    Raises:
        ValueError: a single level.
    """

    def __init__(self, channels: Sequence[int], out: int, layers: int = 3) -> None:
        super().__init__()
        positive(self, layers=layers)
        if len(channels) < 2:
            raise ValueError("BiFPN: needs two levels or more, not one")
        self.laterals = nn.ModuleList(nn.Sequential(nn.Conv2d(c, out, 1, bias=False), batch_norm(out)) for c in channels)
        self.layers = nn.Sequential(*(_Layer(out, len(channels)) for _ in range(layers)))

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        return self.layers([lateral(level) for lateral, level in zip(self.laterals, x, strict=True)])
