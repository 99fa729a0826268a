"""Double attention (Chen et al., NeurIPS 2018, arXiv:1810.11579)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.arguments import first_integer, positive
from models.registry import LayerPlan, Row, Scale, Width, only, preserve, register


def _rule(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """`preserve`; of the four numbers that YOLOAir's row has, the first is a width that is not scaled, and the last has no meaning."""
    if len(row.args) == 4 and first_integer(row.args[3:]):
        width = only(row, inputs)
        return LayerPlan((width, *row.args[1:3]), width, scale.repeats(row.repeats))
    return preserve(row, inputs, scale)


@register(_rule, example=(4, 6))
class DoubleAttention(nn.Module):
    """Double attention, the block of A2-Nets (arXiv:1810.11579, eq. 2-6): gather features from the whole map, then distribute them.

    One softmax is over the positions (gather), the other over the maps (distribute). A widely used copy omits the axis and
    normalises over the batch.

    Args:
        channels: width C of input and output.
        features: width c_m of the gathered features; None is a quarter of C.
        maps: number c_n of attention maps; None is a quarter of C.
        residual: add the input, as in the paper's networks.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, features: int | None = None, maps: int | None = None, residual: bool = True) -> None:
        super().__init__()
        positive(self, features=features, maps=maps)
        features = max(channels // 4, 1) if features is None else features
        maps = max(channels // 4, 2) if maps is None else maps  # a softmax over one map is 1 everywhere
        self.convA = nn.Conv2d(channels, features, 1)
        self.convB = nn.Conv2d(channels, maps, 1)
        self.convV = nn.Conv2d(channels, maps, 1)
        self.conv_reconstruct = nn.Conv2d(features, channels, 1)
        self.residual = residual

    def attention(self, x: Tensor) -> Tensor:
        """The attention maps of the gathering step, (B, c_n, H, W); each sums to 1."""
        return self.convB(x).flatten(2).softmax(2).unflatten(2, x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        a = self.convA(x).flatten(2)  # (B, c_m, N)
        gathering = self.attention(x).flatten(2).to(a.dtype)  # (B, c_n, N)
        distribution = self.convV(x).flatten(2).softmax(1).to(a.dtype)  # (B, c_n, N), sums to 1 at each position
        y = (a @ gathering.transpose(1, 2)) @ distribution
        y = self.conv_reconstruct(y.unflatten(2, x.shape[2:]))
        return x + y if self.residual else y
