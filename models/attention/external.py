"""External attention (Guo et al., TPAMI 2022, arXiv:2105.02358)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.conv import fold_members
from models.layers.norm import PooledBatchNorm
from models.registry import preserve, register


@register(preserve, example=(8,))
class ExternalAttention(nn.Module):
    """External attention (arXiv:2105.02358, eq. 5-6): positions attend to a learned memory, in time linear in their number.

    Weights are normalised twice: softmax over the positions, then to a sum of 1 over the memory. As in the authors' code there is a
    1x1 convolution before and after, a residual and ReLU.

    Args:
        channels: width C of input and output.
        memory: number of memory entries.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, memory: int = 64) -> None:
        super().__init__()
        positive(self, memory=memory)
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.keys = nn.Conv1d(channels, memory, 1, bias=False)
        self.values = nn.Conv1d(memory, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn: nn.Module = PooledBatchNorm(channels)

    def _weights(self, x: Tensor) -> Tensor:
        """The share of each memory entry at each position, (B, memory, H * W); sums to 1 over the memory."""
        weights = self.keys(self.conv1(x).flatten(2)).float().softmax(2)
        return weights / (weights.sum(1, keepdim=True) + 1e-9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.values(self._weights(x).to(x.dtype)).unflatten(2, x.shape[2:])
        return F.relu(x + self.bn(self.conv2(y)))

    def fuse(self) -> None:
        """Fold the batch norm into the last convolution."""
        fold_members(self, ("conv2", "bn"))
