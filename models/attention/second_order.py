"""Second-order channel attention (Dai et al., CVPR 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.arguments import positive
from models.registry import preserve, register


def covariance_root(x: Tensor, iterations: int) -> Tensor:
    """Square root of the covariance of the channels by Newton-Schulz steps, in float32 or better.

    Args:
        x: (B, C, N), N positions.
        iterations: number of steps; the paper's five come within a few per cent.

    Returns:
        (B, C, C)
    """
    x = x if x.dtype == torch.float64 else x.float()
    centred = x - x.mean(2, keepdim=True)
    covariance = centred @ (centred / x.shape[2]).transpose(1, 2)
    # The trace bounds the eigenvalues by 1, without which the steps diverge; a map of one colour has none.
    trace = covariance.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-12)[:, None, None]
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    y = covariance / trace
    z = 1.5 * identity - 0.5 * y  # the first step starts from the identity
    y = y @ z
    for _ in range(iterations - 1):
        step = 1.5 * identity - 0.5 * (z @ y)
        y, z = y @ step, step @ z
    return y * trace.sqrt()


@register(preserve, example=(2,))
class SOCA(nn.Module):
    """Second-order channel attention (Dai et al., CVPR 2019, eq. 8-14): channels are gated by their covariances, not their means.

    The square root of the covariance takes some 3 * iterations products of C x C matrices whatever the size of the map, above 2x a 3x3
    convolution's time where C is much larger than the map; the paper's C is 64.

    Args:
        channels: width C of input and output.
        reduction: the bottleneck has C / reduction channels, at least one.
        iterations: Newton-Schulz steps.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1
    """

    def __init__(self, channels: int, reduction: int = 16, iterations: int = 5) -> None:
        super().__init__()
        positive(self, reduction=reduction, iterations=iterations)
        hidden = max(channels // reduction, 1)
        self.iterations = iterations
        self.conv_du = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1), nn.Sigmoid())

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, 1, 1)."""
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
            described = covariance_root(x.flatten(2), self.iterations).mean(1)
        return self.conv_du(described[:, :, None, None].to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
