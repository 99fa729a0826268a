"""Receptive-field attention, and space to depth in place of strides."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.layers.conv import Conv
from models.layers.downsample import SpaceToDepth
from models.registry import project, register


@register(project, example=(48, 3, 2))
class RFAConv(nn.Module):
    """Receptive-field attention convolution (Zhang et al., arXiv:2304.03198, eq. 3).

    Each k x k field has weights of its own, a softmax of a grouped 1x1 of its mean, on features of its own, by a grouped k x k with batch
    norm and ReLU; a k x k of stride k, batch norm and SiLU reads the weighted fields. That is k^2 maps for one, and takes several
    times a 3x3 convolution's time on a CPU where c1 is small.

    Args:
        c1: input width.
        c2: output width.
        k: side of the field, odd.
        s: stride.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        odd(self, k=k)
        positive(self, s=s)
        self.k, self.stride = k, s
        self.weigh = nn.Conv2d(c1, c1 * k * k, 1, groups=c1, bias=False)
        self.generate = nn.Sequential(nn.Conv2d(c1, c1 * k * k, k, s, k // 2, groups=c1, bias=False), nn.BatchNorm2d(c1 * k * k), nn.ReLU())
        self.conv = Conv(c1, c2, k, k, 0)

    def forward(self, x: Tensor) -> Tensor:
        k = self.k
        weights = self.weigh(F.avg_pool2d(x, k, self.stride, k // 2)).unflatten(1, (-1, k * k)).softmax(2)
        fields = (self.generate(x).unflatten(1, (-1, k * k)) * weights).flatten(1, 2)
        # Spread to k x k pixels each, the fields would be read by a k x k of stride k; side by side, by the same weights as a 1x1.
        conv = self.conv.conv
        return self.conv.act(self.conv.bn(F.conv2d(fields, conv.weight.flatten(1)[..., None, None], conv.bias)))


@register(project, example=(48, 3))
class SPDConv(nn.Module):
    """Space to depth, then a convolution of stride 1, in place of one of stride 2 (Sunkara & Luo, ECML 2022, arXiv:2208.03641).

    Four times the input channels make it about four times as many operations as a 3x3 of stride 2; nothing of a small object is skipped.

    Args:
        c1: input width.
        c2: output width.
        k: side of the kernel, odd.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / 2), ceil(W / 2))
    """

    def __init__(self, c1: int, c2: int, k: int = 3) -> None:
        super().__init__()
        odd(self, k=k)
        self.phases = SpaceToDepth()
        self.conv = Conv(4 * c1, c2, k)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.phases(x))
