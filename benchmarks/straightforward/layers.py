"""Layers and necks as they are commonly written: one image at a time, one branch at a time, maps rearranged."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from models.layers.conditional import CondConv, DynamicConv, MixedConv
from models.layers.deformable import DCNv2
from models.layers.downsample import DWT
from models.layers.gsconv import GSConv
from models.layers.orepa import OREPA
from models.layers.pool import SPPF, SPPFCSPC, SimSPPF
from models.layers.receptive import RFAConv
from models.necks.dysample import DySample


class _Looped(MixedConv):
    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for image, shares in zip(x, self.shares(x), strict=True):
            kernel = (shares[:, None, None, None, None] * self.weight.unflatten(0, (self.experts, -1))).sum(0)
            maps.append(F.conv2d(image[None], kernel, stride=self.stride, padding=kernel.shape[2] // 2))
        return self.act(self.bn(torch.cat(maps)))


class LoopedCondConv(_Looped, CondConv):
    """One image at a time."""


class LoopedDynamicConv(_Looped, DynamicConv):
    """One image at a time."""


class BranchedOREPA(OREPA):
    """Each branch a convolution of maps, as other blocks of branches train; no merged form."""

    def forward(self, x: Tensor) -> Tensor:
        f = {name: factor.view(-1, 1, 1) for name, factor in self.factors.items()}
        p, g, width = self.k // 2, self.g, x.shape[1] // self.g
        first = (self.deep1 + torch.eye(width)).reshape(-1, width, 1, 1)
        y = f["dense"] * F.conv2d(x, self.dense, padding=p, groups=g) + f["point"] * F.conv2d(x, self.point, groups=g)
        y = y + f["mean"] * F.avg_pool2d(F.conv2d(x, self.mean, groups=g), self.k, 1, p)
        y = y + f["cosine"] * F.conv2d(F.conv2d(x, self.cosine, groups=g), self.cosines, padding=p, groups=len(self.cosine))
        y = y + f["deep"] * F.conv2d(F.conv2d(x, first, groups=g), self.deep2, padding=p, groups=g)
        y = y + f["wide"] * F.conv2d(F.conv2d(x, self.wide1, padding=p, groups=x.shape[1]), self.wide2, groups=g)
        return self.act(self.bn(y))


class RearrangedRFAConv(RFAConv):
    """Fields spread by a permuted copy in the place of a pixel shuffle."""

    def forward(self, x: Tensor) -> Tensor:
        k, (batch, channels) = self.k, x.shape[:2]
        weights = self.weigh(F.avg_pool2d(x, k, self.stride, k // 2))
        height, width = weights.shape[2:]
        weights = weights.view(batch, channels, k * k, height, width).softmax(2)
        fields = self.generate(x).view(batch, channels, k * k, height, width) * weights
        spread = fields.view(batch, channels, k, k, height, width).permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, height * k, width * k)
        return self.conv(spread)


class OperatorDCNv2(DCNv2):
    """torchvision's operator, which cannot be exported."""

    def forward(self, x: Tensor) -> Tensor:
        offsets, modulation = self.conv_offset.moves(x)
        k = self.conv.kernel_size[0]
        y = deform_conv2d(x, offsets, self.conv.weight, None, (self.stride, self.stride), (k // 2, k // 2), mask=modulation)
        return self.act(self.bn(y))


class ConvolvedDWT(DWT):
    """A convolution of stride 2 with the four Haar filters of every channel."""

    def forward(self, x: Tensor) -> Tensor:
        haar = torch.tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 4
        y = F.conv2d(x, haar[:, None].repeat(x.shape[1], 1, 1, 1), stride=2, groups=x.shape[1]).unflatten(1, (-1, 4))
        return torch.cat((y[:, :, 0], (y[:, :, 1:] + 0.5).flatten(1, 2)), 1)


class ReshapedGSConv(GSConv):
    """The shuffle by reshaping and permuting."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        y = torch.cat((y, self.cv2(y)), 1)
        batch, channels, height, width = y.shape
        y = y.reshape(batch * channels // 2, 2, height * width).permute(1, 0, 2)
        y = y.reshape(2, -1, channels // 2, height, width)
        return torch.cat((y[0], y[1]), 1)


def _pools(x: Tensor, k: int) -> list[Tensor]:
    return [F.max_pool2d(x, side, 1, side // 2) for side in (k, 2 * k - 1, 3 * k - 2)]


class ParallelSPPF(SPPF):
    """A large pool for each size."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat((x, *_pools(x, int(self.m.kernel_size))), 1))


class ParallelSimSPPF(SimSPPF):
    """A large pool for each size."""

    forward = ParallelSPPF.forward  # type: ignore[assignment]


class ParallelSPPFCSPC(SPPFCSPC):
    """A large pool for each size."""

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__(c1, c2, k)
        self.pyramid.m = nn.ModuleList(nn.MaxPool2d(side, 1, side // 2) for side in (k, 2 * k - 1, 3 * k - 2))
        self.pyramid.pooled = lambda x: [pool(x) for pool in self.pyramid.m]


class ShuffledDySample(DySample):
    """A grid of all output pixels, normalised and shuffled with its coordinates in front, as the authors have it."""

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        offset = self.offset(x) * 0.25 + self.start.expand(2, self.groups, -1).reshape(1, -1, 1, 1)
        offset = offset.view(batch, 2, -1, height, width)
        across, down = torch.arange(width) + 0.5, torch.arange(height) + 0.5
        grid = torch.stack(torch.meshgrid([across, down], indexing="ij")).transpose(1, 2).unsqueeze(1).unsqueeze(0)
        size = torch.tensor([width, height]).view(1, 2, 1, 1, 1)
        coordinates = 2 * (grid + offset) / size - 1
        spread = F.pixel_shuffle(coordinates.reshape(batch, -1, height, width), self.scale)
        spread = spread.view(batch, 2, -1, self.scale * height, self.scale * width).permute(0, 2, 3, 4, 1).contiguous().flatten(0, 1)
        y = F.grid_sample(x.reshape(batch * self.groups, -1, height, width), spread, "bilinear", "border", align_corners=False)
        return y.view(batch, -1, self.scale * height, self.scale * width)
