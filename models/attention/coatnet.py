"""CoAtNet's transformer block, with relative attention (Dai et al., NeurIPS 2021, arXiv:2106.04803)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.heads import attend, heads_for
from models.attention.position import pair
from models.attention.windows import offset_index
from models.layers.norm import ChannelNorm
from models.registry import preserve, register


@register(preserve, example=(2, 2, (4, 5)))
class CoAtNetBlock(nn.Module):
    """CoAtNet's transformer block (arXiv:2106.04803, eq. 3, pre-normalised): attention whose logits have a bias for each offset, an MLP.

    y_i = sum over j of softmax(q_i k_j / sqrt(d) + w of i - j) v_j. The table of biases is resized bilinearly for other sizes than its
    own, as in the paper's fine-tuning. All pairs of pixels: its time grows with the square of the map's area, and at stride 16 and below
    it takes more than 2x a 3x3 convolution's.

    Args:
        channels: width C of input and output.
        heads: as in `MUSE`.
        ratio: inner width of the MLP / C.
        fmap_size: native (height, width) of the biases, or the side of a square.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, channels: int, heads: int | None = None, ratio: int = 4, fmap_size: tuple[int, int] | int = (20, 20)) -> None:
        super().__init__()
        self.heads = heads_for(self, channels, heads)
        height, width = pair(fmap_size)
        self.rel_table = nn.Parameter(torch.zeros(self.heads, 2 * height - 1, 2 * width - 1))
        nn.init.trunc_normal_(self.rel_table, std=0.02)
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.qkv, self.proj = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        self.mlp = nn.Sequential(nn.Conv2d(channels, ratio * channels, 1), nn.GELU(), nn.Conv2d(ratio * channels, channels, 1))

    def bias(self, height: int, width: int) -> Tensor:
        """(heads, H W, H W): of each query and key."""
        sides = (2 * height - 1, 2 * width - 1)
        table = F.interpolate(self.rel_table[None], sides, mode="bilinear", align_corners=True)[0]
        return table.flatten(1)[:, offset_index(height, width, table.device)]

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, 1)
        x = x + self.proj(attend(q, k, v, self.heads, self.bias(*x.shape[2:])))
        return x + self.mlp(self.norm2(x))
