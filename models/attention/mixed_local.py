"""Mixed local channel attention (Wan et al., Engineering Applications of Artificial Intelligence 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.arguments import odd, positive
from models.attention.eca import ECA
from models.registry import preserve, register


def averaging(given: Tensor, wanted: Tensor) -> Tensor:
    """Matrix that averages `given` positions to `wanted` ones as adaptive average pooling does; each row sums to 1.

    As a product it is deterministic on a GPU and exports with any size, which the pooling does not.

    Args:
        given, wanted: 0, 1, ... of the positions, as tensors, so that a trace holds for every size.

    Returns:
        (wanted, given)
    """
    n, m = given[-1] + 1, wanted[-1] + 1
    start = (wanted * n).div(m, rounding_mode="floor")
    end = ((wanted + 1) * n + m - 1).div(m, rounding_mode="floor")
    inside = ((given >= start[:, None]) & (given < end[:, None])).float()
    return inside / inside.sum(1, keepdim=True)


@register(preserve, example=(3,))
class MLCA(nn.Module):
    """Mixed local channel attention (Wan et al., 2023): `ECA` on the means of a few patches and on those of the whole map, mixed.

    The products with `averaging` are exact at any size. PyTorch's adaptive pools take less time in inference on maps up to about 40 x 40
    and in training on maps below 20 x 20, and more on larger ones: half of an 80 x 80 map's inference is saved.

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
        size = self.local_size
        rows, columns, few = (torch.arange(n, device=x.device) for n in (*x.shape[2:], size))
        local = averaging(rows, few).to(x.dtype) @ (x @ averaging(columns, few).to(x.dtype).T)  # (B, C, size, size)
        # The patches' channels follow each other in one sequence, as in the authors' code.
        sequence = local.flatten(2).transpose(1, 2).flatten(1)[:, None]  # (B, 1, size^2 C)
        by_patch = self.conv_local(sequence).sigmoid().unflatten(2, (size * size, -1))[:, 0].transpose(1, 2).unflatten(2, (size, size))
        whole = self.conv(local.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]
        mixed = whole * (1 - self.local_weight) + by_patch * self.local_weight
        return averaging(few, rows).to(x.dtype) @ mixed.to(x.dtype) @ averaging(few, columns).to(x.dtype).T

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
