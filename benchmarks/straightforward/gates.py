"""Gates as they are commonly written: adaptive pools, gates spread over the map, permuted copies."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention.bam import BAM
from models.attention.cbam import CBAM
from models.attention.coord import CoordAtt
from models.attention.eca import ECA
from models.attention.effective_se import EffectiveSE
from models.attention.frequency import FCA
from models.attention.global_context import GCBlock
from models.attention.mixed_local import MLCA
from models.attention.multi_scale import EMA
from models.attention.nam import NAM
from models.attention.se import SE
from models.attention.second_order import SOCA
from models.attention.spatial_group import SGE
from models.attention.strip import ELA
from models.attention.triplet import TripletAttention


class PooledSE(SE):
    """An adaptive pool, and the gate spread over the map."""

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return x * gate.view(len(x), -1, 1, 1).expand_as(x)


class PooledEffectiveSE(EffectiveSE):
    """An adaptive pool, and the gate spread over the map."""

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(F.adaptive_avg_pool2d(x, 1))).expand_as(x)


class PooledECA(ECA):
    """An adaptive pool, transposed for the 1-D convolution and back."""

    def forward(self, x: Tensor) -> Tensor:
        line = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(1, 2)
        return x * self.conv(line).transpose(1, 2).unsqueeze(-1).sigmoid().expand_as(x)


class PooledCBAM(CBAM):
    """Pools with a kernel as large as the map, and gates spread over the map."""

    def forward(self, x: Tensor) -> Tensor:
        size, mlp, gate = x.shape[2:], self.ChannelGate.mlp, self.SpatialGate.spatial
        by_channel = mlp(F.avg_pool2d(x, size, size)) + mlp(F.max_pool2d(x, size, size))
        y = x * by_channel.sigmoid()[..., None, None].expand_as(x)
        maps = torch.cat((y.max(1)[0].unsqueeze(1), y.mean(1).unsqueeze(1)), 1)
        return y * gate.bn(gate.conv(maps)).sigmoid().expand_as(y)


class PermutedTriplet(TripletAttention):
    """Each branch on a permuted copy of the map, permuted back."""

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for axes, gate in (((0, 2, 1, 3), self.cw), ((0, 3, 2, 1), self.hc), ((0, 1, 2, 3), self.hw)):
            y = x.permute(axes).contiguous()
            conv = gate.get_submodule("conv")
            pooled = torch.cat((y.max(1)[0].unsqueeze(1), y.mean(1).unsqueeze(1)), 1)
            outputs.append((y * conv.get_submodule("bn")(conv.get_submodule("conv")(pooled)).sigmoid()).permute(axes).contiguous())
        return (outputs[0] + outputs[1] + outputs[2]) / 3


class ProductGCBlock(GCBlock):
    """A product of matrices with an axis of one more."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        mask = self.conv_mask(x).view(batch, 1, height * width).softmax(2).unsqueeze(-1)
        context = torch.matmul(x.view(batch, channels, height * width).unsqueeze(1), mask).view(batch, channels, 1, 1)
        return x + self.channel_add_conv(context)


class ExpandedBAM(BAM):
    """Both gates spread over the map before they are added."""

    def attention(self, x: Tensor) -> Tensor:
        by_channel = self.bn_c(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))
        by_place = self.bn_s(self.conv4(F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))))
        return (by_channel.expand_as(x) + by_place.expand_as(x)).sigmoid()


class PooledEMA(EMA):
    """Adaptive pools, a permuted line, both products joined."""

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        grouped = x.reshape(batch * self.groups, -1, height, width)
        rows = F.adaptive_avg_pool2d(grouped, (height, 1))
        columns = F.adaptive_avg_pool2d(grouped, (1, width)).permute(0, 1, 3, 2)
        rows, columns = self.conv1x1(torch.cat((rows, columns), 2)).split((height, width), 2)
        one = self.gn(grouped * rows.sigmoid() * columns.permute(0, 1, 3, 2).sigmoid())
        other = self.conv3x3(grouped)

        def crossed(a: Tensor, b: Tensor) -> Tensor:
            share = F.adaptive_avg_pool2d(a, 1).reshape(len(a), -1, 1).permute(0, 2, 1).softmax(-1)
            return share @ b.reshape(len(b), b.shape[1], -1)

        gate = (crossed(one, other) + crossed(other, one)).reshape(batch * self.groups, 1, height, width)
        return (grouped * gate.sigmoid()).reshape(x.shape)


class TwiceMultipliedELA(ELA):
    """The map times the one gate, times the other."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = self.gn_h(self.conv_h(x.mean(3, keepdim=True).view(batch, channels, height))).sigmoid()
        columns = self.gn_w(self.conv_w(x.mean(2, keepdim=True).view(batch, channels, width))).sigmoid()
        return x * rows.view(batch, channels, height, 1) * columns.view(batch, channels, 1, width)


class PooledFCA(FCA):
    """An adaptive pool, times a map of cosines for each channel."""

    def components(self, x: Tensor) -> Tensor:
        cosines = self.rows[:, :, None] * self.columns[:, None]  # (C, size, size)
        return (F.adaptive_avg_pool2d(x, self.size) * cosines).sum((2, 3))


class PooledSGE(SGE):
    """Groups in the place of images, normalised along a line."""

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        grouped = x.view(batch * self.groups, -1, height, width)
        line = (grouped * F.adaptive_avg_pool2d(grouped, 1)).sum(1, keepdim=True).view(batch * self.groups, -1)
        line = line - line.mean(1, keepdim=True)
        line = line / (line.std(1, keepdim=True, unbiased=False) + 1e-5)
        gate = line.view(batch, self.groups, height, width) * self.weight + self.bias
        return (grouped * gate.view(batch * self.groups, 1, height, width).sigmoid()).view(x.shape)


class CentredSOCA(SOCA):
    """The covariance by a product with the N x N matrix that centres, and every Newton step in full."""

    def attention(self, x: Tensor) -> Tensor:
        tokens, identity = x.flatten(2), torch.eye(x.shape[1])
        count = tokens.shape[2]
        centre = (torch.eye(count) - 1 / count) / count
        covariance = tokens @ centre.expand(len(x), count, count) @ tokens.transpose(1, 2)
        trace = (covariance * identity).sum((1, 2)).view(-1, 1, 1)
        y, z = covariance / trace, identity.expand_as(covariance)
        for _ in range(self.iterations):
            step = 0.5 * (3 * identity - z @ y)
            y, z = y @ step, step @ z
        return self.conv_du((y * trace.sqrt()).mean(1)[..., None, None])


class PermutedNAM(NAM):
    """Channels last for the shares, and back."""

    def attention(self, x: Tensor) -> Tensor:
        share = self.bn2.weight.abs() / self.bn2.weight.abs().sum()
        y = self.bn2(x).permute(0, 2, 3, 1).contiguous()
        return (y * share).permute(0, 3, 1, 2).contiguous().sigmoid()


class PooledMLCA(MLCA):
    """Adaptive pools in both directions."""

    def attention(self, x: Tensor) -> Tensor:
        batch, channels, size = len(x), x.shape[1], self.local_size
        local = F.adaptive_avg_pool2d(x, size)
        line = local.permute(0, 2, 3, 1).reshape(batch, 1, -1)
        patches = self.conv_local(line).sigmoid().reshape(batch, size, size, channels).permute(0, 3, 1, 2)
        whole = self.conv(local.mean((2, 3))[:, None]).sigmoid().reshape(batch, channels, 1, 1)
        return F.adaptive_avg_pool2d(whole * (1 - self.local_weight) + patches * self.local_weight, x.shape[2:])


class PooledCoordAtt(CoordAtt):
    """Adaptive pools, and the gates spread over the map before they are multiplied."""

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[2:]
        rows, columns = F.adaptive_avg_pool2d(x, (height, 1)), F.adaptive_avg_pool2d(x, (1, width)).permute(0, 1, 3, 2)
        joint = F.hardswish(self.bn1(self.conv1(torch.cat((rows, columns), 2))))
        of_rows, of_columns = joint.split((height, width), 2)
        return self.conv_h(of_rows).sigmoid().expand_as(x), self.conv_w(of_columns.permute(0, 1, 3, 2)).sigmoid().expand_as(x)
