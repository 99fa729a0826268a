"""RepMLP: fully connected layers on partitions, into which convolutions merge for inference (Ding et al., arXiv:2105.01883)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import multiple, odd, positive
from models.layers.conv import batch_norm, fold_members
from models.layers.fuse import pad_to_multiple
from models.registry import preserve, register


class _Grouped(nn.Conv2d):
    """A grouped 1x1 convolution of maps of one pixel by matrix products, which take a CPU a tenth of the convolution's time.

    Shape:
        (B, C, 1, 1) -> (B, C', 1, 1)
    """

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.flatten(1).unflatten(1, (self.groups, -1)).transpose(0, 1)  # (groups, B, C / groups)
        weight = self.weight.flatten(1).unflatten(0, (self.groups, -1))  # (groups, C' / groups, C / groups)
        y = (grouped @ weight.transpose(1, 2)).transpose(0, 1).flatten(1)
        return (y if self.bias is None else y + self.bias)[..., None, None]


@register(preserve, example=(2, 2))
class RepMLP(nn.Module):
    """RepMLP (arXiv:2105.01883, figure 1): global, partition and local perceptron on partitions of size x size.

    The pooled partitions exchange by two layers what is then added to each; a grouped fully connected layer with batch norm mixes the
    positions and the channels of a group in a partition; convolutions with batch norm of the partition are added, and merge into that layer
    for inference. Maps are padded with zeros, right and bottom.

    The fully connected layer has seven times the weights of a 3x3 convolution; reading them takes some 2x its time where the map is small.

    Args:
        channels: width C of input and output.
        size: side of a partition.
        groups: of the fully connected layer, whose weight has (C size^2)^2 / groups elements.
        kernels: sides of the convolutions, odd.
        reduction: C / inner width of the global perceptron.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: groups that do not divide the width, or an even kernel.
    """

    def __init__(self, channels: int, size: int = 4, groups: int = 4, kernels: Sequence[int] = (1, 3), reduction: int = 4) -> None:
        super().__init__()
        positive(self, size=size, reduction=reduction)
        multiple(self, groups, channels=channels)
        for kernel in kernels:
            odd(self, kernel=kernel)
        self.size, self.groups = size, groups
        inner, area = max(channels // reduction, 1), size * size
        self.global_perceptron = nn.Sequential(nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, channels))
        self.fc = _Grouped(channels * area, channels * area, 1, groups=groups, bias=False)
        self.fc_bn: nn.Module = batch_norm(channels * area)
        convs = (nn.Conv2d(channels, channels, k, padding=k // 2, groups=groups, bias=False) for k in kernels)
        self.local = nn.ModuleList(nn.Sequential(conv, batch_norm(channels)) for conv in convs)

    def forward(self, x: Tensor) -> Tensor:
        size, (height, width) = self.size, x.shape[2:]
        padded = pad_to_multiple(x, size)
        B, C, H, W = padded.shape
        parts = padded.reshape(B, C, H // size, size, W // size, size).permute(0, 2, 4, 1, 3, 5).reshape(-1, C, size, size)
        # The paper's batch norm after the mean is left out: with one partition and one image it has a single value.
        parts = parts + self.global_perceptron(parts.mean((2, 3)))[..., None, None]
        y = self.fc_bn(self.fc(parts.reshape(-1, C * size * size, 1, 1))).reshape(-1, C, size, size)
        for conv in self.local:
            y = y + conv(parts)
        y = y.reshape(B, H // size, W // size, C, size, size).permute(0, 3, 1, 4, 2, 5)
        return y.reshape(B, C, H, W)[:, :, :height, :width]

    @torch.no_grad()
    def fuse(self) -> None:
        """Merge the convolutions into the fully connected layer: a convolution of each unit map is a column of its matrix (section 3.2)."""
        fold_members(self, ("fc", "fc_bn"))
        size, groups = self.size, self.groups
        width = self.fc.in_channels // (size * size) // groups
        for conv in self.local:
            fold_members(conv, ("0", "1"))
            layer = conv.get_submodule("0")
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            assert self.fc.bias is not None
            units = torch.eye(width * size * size, device=layer.weight.device, dtype=layer.weight.dtype).reshape(-1, width, size, size)
            every = F.conv2d(units.repeat(1, groups, 1, 1), layer.weight, padding=layer.padding, groups=groups)
            columns = every.reshape(len(units), groups, -1).permute(1, 2, 0).reshape(self.fc.weight.shape[:2])
            self.fc.weight += columns[..., None, None]
            self.fc.bias += layer.bias.repeat_interleave(size * size)
        self.local = nn.ModuleList()
