"""Channel prior convolutional attention (Huang et al., 2023, arXiv:2306.05196)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.join import total
from models.layers.spatial import peak
from models.registry import preserve, register


@register(preserve, example=(2,))
class CPCA(nn.Module):
    """Channel prior convolutional attention (arXiv:2306.05196, eq. 1-4): CBAM's channel gate, then a gate for each channel and position.

    Depthwise strips of 7, 11 and 21 pixels around a 5x5 give the second gate. The authors' code adds two sigmoids in the first, and
    puts the same 1x1 convolution before and after everything; here it is as in the paper.

    Args:
        channels: width C of input and output.
        reduction: the channel gate's bottleneck has C / reduction channels, at least one.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        positive(self, reduction=reduction)
        hidden = max(channels // reduction, 1)
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, (1, k), padding=(0, k // 2), groups=channels),
                nn.Conv2d(channels, channels, (k, 1), padding=(k // 2, 0), groups=channels),
            )
            for k in (7, 11, 21)
        )
        self.conv = nn.Conv2d(channels, channels, 1)

    def _by_channel(self, x: Tensor) -> Tensor:
        pooled = (x.mean((2, 3), keepdim=True), peak(x.flatten(2), 2)[..., None])
        return total(self.fc2(F.relu(self.fc1(p))) for p in pooled).sigmoid()

    def _by_place(self, x: Tensor) -> Tensor:
        near = self.near(x)
        return self.conv(near + total(strip(near) for strip in self.strips))

    def attention(self, x: Tensor) -> Tensor:
        """Both gates, (B, C, H, W)."""
        gate = self._by_channel(x)
        return gate * self._by_place(x * gate)

    def forward(self, x: Tensor) -> Tensor:
        y = x * self._by_channel(x)
        return y * self._by_place(y)
