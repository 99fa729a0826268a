"""Mixed local channel attention (Wan et al., Engineering Applications of Artificial Intelligence 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.arguments import odd, positive
from models.attention.eca import ECA
from models.registry import preserve, register


def overlap(given: Tensor, wanted: Tensor) -> Tensor:
    """1 where a position of `given` is in the window that adaptive average pooling to `wanted` positions takes the mean of, else 0.

    Both divide the same length, and overlap; so the transposed matrix is that of the pooling back. As a product the pooling is
    deterministic on a GPU and exports with any size.

    Args:
        given, wanted: 0, 1, ... of the positions, as tensors, so that a trace holds for every size.

    Returns:
        (wanted, given)
    """
    size = given[-1] + 1
    start, begin = given * (wanted[-1] + 1), wanted[:, None] * size
    return ((start < begin + size) & (begin < start + wanted[-1] + 1)).float()


@register(preserve, example=(3,))
class MLCA(nn.Module):
    """Mixed local channel attention (Wan et al., 2023): `ECA` on the means of a few patches and on those of the whole map, mixed.

    Both poolings are one product with the same few patches' matrix.

    Args:
        channels: width C of input and output.
        local_size: patches along either side.
        local_weight: share of the patches' gates, 0 to 1.
        kernel_size: length of the two 1-D convolutions, odd; None follows the width as in `ECA`.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1

    Raises:
        ValueError: an even kernel size, or a share outside 0..1.
    """

    def __init__(self, channels: int, local_size: int = 5, local_weight: float = 0.5, kernel_size: int | None = None) -> None:
        super().__init__()
        positive(self, local_size=local_size)
        kernel_size = ECA(channels).conv.kernel_size[0] if kernel_size is None else kernel_size
        odd(self, kernel_size=kernel_size)
        if not 0 <= local_weight <= 1:
            raise ValueError(f"MLCA: local_weight must be 0 to 1, not {local_weight}")
        self.local_size, self.local_weight = local_size, local_weight
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def attention(self, x: Tensor) -> Tensor:
        """The gate, (B, C, H, W)."""
        rows, columns, few = (torch.arange(n, device=x.device) for n in (*x.shape[2:], self.local_size))
        inside = (overlap(rows, few)[:, None, :, None] * overlap(columns, few)[:, None]).flatten(2).flatten(0, 1)  # (size^2, H W)
        local = x.flatten(2) @ (inside / inside.sum(1, keepdim=True)).to(x.dtype).T  # (B, C, size^2)
        # The patches' channels follow each other in one sequence, as in the authors' code.
        sequence = local.transpose(1, 2).flatten(1)[:, None]  # (B, 1, size^2 C)
        by_patch = self.conv_local(sequence).sigmoid().unflatten(2, (self.local_size**2, -1))[:, 0].transpose(1, 2)
        whole = self.conv(local.mean(2)[:, None]).sigmoid().transpose(1, 2)
        mixed = whole * (1 - self.local_weight) + by_patch * self.local_weight
        return (mixed.to(x.dtype) @ (inside / inside.sum(0)).to(x.dtype)).unflatten(2, x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
