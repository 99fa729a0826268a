"""SimAM, parameter-free attention (Yang et al., ICML 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from models.registry import preserve, register


@register(preserve)
class SimAM(nn.Module):
    """SimAM (Yang et al., ICML 2021, eq. 5): each pixel is gated by how much it differs from its channel's mean. No parameters.

    Args:
        channels: width of the input; has no effect.
        energy_lambda: the regularisation lambda of the paper, above 0.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, energy_lambda: float = 1e-4) -> None:  # noqa: ARG002 - every attention takes its width first
        super().__init__()
        if energy_lambda <= 0:
            raise ValueError(f"SimAM: energy_lambda must be above 0, not {energy_lambda}: the variance may be 0")
        self.energy_lambda = energy_lambda

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W)."""
        pixels = x.shape[2] * x.shape[3]
        others = pixels - 1 + 1 // pixels  # at least 1
        deviation = (x - x.mean((2, 3), keepdim=True)).square()
        variance = deviation.sum((2, 3), keepdim=True) / others
        return (deviation / (4 * (variance + self.energy_lambda)) + 0.5).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
