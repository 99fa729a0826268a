"""Class-specific residual attention (Zhu & Wu, ICCV 2021, arXiv:2108.02456)."""

from __future__ import annotations

from torch import Tensor, nn

from models.registry import preserve, register


@register(preserve, aliases=("CSRA",), example=(0.3, 2.0))
class ResidualAttention(nn.Module):
    """Residual attention (arXiv:2108.02456, eq. 3-6), whose scores gate the channels.

    The paper scores the classes of an image: s = x W, score = mean(s) + lam * sum of softmax(T s) s over the pixels. A detector has no
    classes of an image; here each channel has a score, and a sigmoid of it gates that channel.

    Args:
        channels: width C of input and output.
        lam: weight of the attention.
        temperature: T; the larger, the closer to the maximum.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: a temperature that is not positive.
    """

    def __init__(self, channels: int, lam: float = 0.2, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"ResidualAttention: temperature must be above 0, not {temperature}")
        self.lam, self.temperature = lam, temperature
        self.classifier = nn.Conv2d(channels, channels, 1)

    def attention(self, x: Tensor) -> Tensor:
        """The gates, (B, C, 1, 1)."""
        scores = self.classifier(x).flatten(2)
        attended = ((scores * self.temperature).softmax(2) * scores).sum(2)
        return (scores.mean(2) + self.lam * attended).sigmoid()[..., None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
