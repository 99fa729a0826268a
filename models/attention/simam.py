"""SimAM, parameter-free attention (Yang et al., ICML 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from models.registry import preserve_either, register


@register(preserve_either)
class SimAM(nn.Module):
    """SimAM (Yang et al., ICML 2021, eq. 5): each neuron is gated by how far it stands out from its channel. No parameters.

    Args:
        channels: width of the input; the block does not depend on it.
        energy_lambda: the regularising lambda of the paper.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, energy_lambda: float = 1e-4) -> None:  # noqa: ARG002 - every attention takes its width first
        super().__init__()
        if energy_lambda <= 0:
            raise ValueError(f"SimAM: energy_lambda must be above 0, not {energy_lambda}: the variance added to it may be 0")
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
