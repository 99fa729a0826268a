"""GELAN's block, of YOLOv9 (Wang et al., ECCV 2024, arXiv:2402.13616)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.arguments import multiple
from models.layers.conv import Conv
from models.layers.csp import C3, Bottleneck
from models.layers.merged import RepConv
from models.registry import LayerPlan, Row, Scale, Width, register, stack
from utils.errors import UserError


class _RepBottleneck(Bottleneck):
    """A re-parameterised 3x3 and a 3x3, with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, True, 1, 1.0)
        self.cv1 = RepConv(width, width)  # type: ignore[assignment]


class RepCSP(C3):
    """`C3` whose inner bottlenecks begin with a re-parameterised convolution.

    Args:
        c1: input width.
        c2: output width, even.
        n: inner blocks.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int) -> None:
        multiple(self, 2, c2=c2)
        super().__init__(c1, c2, n)

    def inside(self, width: int, n: int, shortcut: bool, g: int) -> nn.Module:  # noqa: ARG002
        return nn.Sequential(*(_RepBottleneck(width) for _ in range(n)))


def _two_widths(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """[width, first, second]: both inner widths are scaled, too."""
    plan = stack(row, inputs, scale)
    inner = row.args[1:3]
    if not all(isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in inner):
        raise UserError(f"a row is [width, width of the first 1x1, width of each branch], not {list(row.args)}")
    return LayerPlan((*plan.args[:3], *(scale.channels(width) for width in inner), *row.args[3:]), plan.out)


@register(_two_widths, aliases=("RepNCSPELAN",), example=(48, 32, 16))
class RepNCSPELAN4(nn.Module):
    """Generalised ELAN with `RepCSP` (arXiv:2402.13616, figure 3): a 1x1 in two halves, two branches one after the other, all joined.

    Args:
        c1: input width.
        c2: output width.
        n: bottlenecks in each `RepCSP`.
        first: width of the first 1x1, even; None is c2.
        second: width of each branch, even; None is first / 2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)

    Raises:
        ValueError: an odd inner width.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, first: int | None = None, second: int | None = None) -> None:
        super().__init__()
        first = c2 if first is None else first
        second = first // 2 if second is None else second
        multiple(self, 2, first=first, second=second)
        self.cv1 = Conv(c1, first)
        self.cv2 = nn.Sequential(RepCSP(first // 2, second, n), Conv(second, second, 3))
        self.cv3 = nn.Sequential(RepCSP(second, second, n), Conv(second, second, 3))
        self.cv4 = Conv(first + 2 * second, c2)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        parts.append(self.cv2(parts[-1]))
        parts.append(self.cv3(parts[-1]))
        return self.cv4(torch.cat(parts, 1))
