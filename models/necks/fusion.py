"""Adding maps of a pyramid up: plainly, and with learned weights as BiFPN does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.named_widths import project_or_pair
from models.layers.residual import init_xavier_weights
from models.registry import LayerPlan, Row, Scale, Width, plain, register
from utils.errors import UserError


def _equal_width(row: Row, inputs: Sequence[Width]) -> int:
    """The width of all inputs.

    Raises:
        UserError: fewer than two, or of several widths.
    """
    widths = plain(row, inputs)
    if len(widths) < 2 or len(set(widths)) > 1:
        raise UserError(f"adds up two maps or more of one width, not {list(widths)} channels; Conv 1x1 changes a width, Concat takes any")
    return widths[0]


def _sum(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001
    return LayerPlan(row.args, _equal_width(row, inputs))


@register(_sum, example=(1,), inputs=(32, 32))
class ADD(nn.Module):
    """The first map, and the others times a factor.

    Args:
        alpha: the factor.

    Shape:
        list of (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        total = x[0]
        for other in x[1:]:
            total = torch.add(total, other, alpha=self.alpha)
        return total


def _fused(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    width = _equal_width(row, inputs)
    if not row.args:
        return LayerPlan((len(inputs), width, width), width)
    plan = project_or_pair(dataclasses.replace(row, sources=row.sources[:1]), inputs[:1], scale)
    return dataclasses.replace(plan, args=(len(inputs), *plan.args), repeats=1)


@register(_fused, example=(48,), inputs=(32, 32, 32))
class Concat_bifpn(nn.Module):  # noqa: N801  the name in YAML files
    """A node of BiFPN (Tan et al., CVPR 2020, arXiv:1911.09070, section 3.3): fast normalised fusion, swish, separable convolution.

    The maps are added up with weights w_i / (sum of w + 0.0001), w_i = ReLU of a learned number that starts at 1. Both convolutions start
    Xavier-uniform, as the authors'.

    Args:
        inputs: number of maps.
        c1: width of each.
        c2: output width.

    Shape:
        list of (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, inputs: int, c1: int, c2: int) -> None:
        super().__init__()
        positive(self, inputs=inputs)
        self.w = nn.Parameter(torch.ones(inputs))
        self.conv = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(c1, c1, 3, padding=1, groups=c1, bias=False),
            nn.Conv2d(c1, c2, 1, bias=False),
            nn.BatchNorm2d(c2, eps=1e-3, momentum=0.01),
        )
        init_xavier_weights(self)

    def weights(self) -> Tensor:
        """The share of each map, (inputs,); they sum to just below 1."""
        w = F.relu(self.w)
        return w / (w.sum() + 1e-4)

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        total = torch.zeros_like(x[0])
        for weight, each in zip(self.weights(), x, strict=True):
            total = total + weight * each
        return self.conv(total)
