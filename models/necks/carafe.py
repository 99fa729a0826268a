"""Content-aware reassembly of features, an upsampling (Wang et al., ICCV 2019, arXiv:1905.02188)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import odd, positive
from models.attention.cot import local_aggregation
from models.registry import preserve, register


@register(preserve, example=(3, 2))
class CARAFE(nn.Module):
    """CARAFE: a small convolution predicts a kernel for each pixel of the output (arXiv:1905.02188, section 3).

    A softmax normalises the k_up x k_up kernel; it sums the neighbourhood of the input pixel in which the output pixel lies. That is 25
    products for each of four times as many values, and takes about three times as long as a 3x3 convolution of 256 channels before it.

    Args:
        channels: width C of input and output.
        k_encoder: side of the predicting convolution, odd.
        scale: factor of height and width.
        k_up: side of the kernels, odd; None is `k_encoder` + 2, which the paper found best.
        compressed: width of the map from which the kernels are predicted.

    Shape:
        (B, C, H, W) -> (B, C, scale * H, scale * W)

    Raises:
        ValueError: an even kernel.
    """

    def __init__(self, channels: int, k_encoder: int = 3, scale: int = 2, k_up: int | None = None, compressed: int = 64) -> None:
        super().__init__()
        self.k_up = k_encoder + 2 if k_up is None else k_up
        odd(self, k_encoder=k_encoder, k_up=self.k_up)
        positive(self, scale=scale, compressed=compressed)
        self.scale = scale
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, (scale * self.k_up) ** 2, k_encoder, padding=k_encoder // 2)
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.normal_(self.encode.weight, std=0.001)  # at the start all kernels are nearly flat, as the authors have it
        for conv in (self.compress, self.encode):
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def kernels(self, x: Tensor) -> Tensor:
        """The kernels of each input pixel, (B, scale * scale, k_up * k_up, H, W), taps row-major; the taps of each sum to 1."""
        # The authors' order of channels, that of pixel_shuffle: taps outermost.
        logits = self.encode(self.compress(x)).unflatten(1, (self.k_up**2, self.scale**2))
        return logits.softmax(1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        values = x.unsqueeze(2)
        phases = [local_aggregation(values, kernel, self.k_up) for kernel in self.kernels(x).split(1, 1)]
        return F.pixel_shuffle(torch.cat(phases, 2).flatten(1, 2), self.scale)
