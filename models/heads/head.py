"""What the detector, training and export know of a detection head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """The last row of a model: levels in, raw maps out, which `decode` turns into boxes.

    Attributes:
        criterion: name of the loss that trains it, see `utils.training.losses.criterion`.
        classes: number of classes K.
        stride: (levels,) pixels per cell; 1 before `set_strides`.
    """

    criterion: ClassVar[str]
    classes: int
    stride: Tensor

    def __init__(self, levels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("stride", torch.ones(levels), persistent=False)

    def decode(self, maps: Sequence[Tensor], keep: Iterable[int] | None = None) -> Tensor:
        """Decode raw maps: list of the head's output -> (B, N, 5 + K) float32.

        The last axis is cx, cy, w, h in pixels of the network's input, then the probabilities of an object (1 for a head without
        objectness) and of each class, not multiplied. The N predictions are ordered by level; `keep` selects levels.
        """
        indices = range(len(maps)) if keep is None else keep
        return torch.cat([self.decode_level(maps[i], i) for i in indices], 1)

    def decode_level(self, raw: Tensor, level: int) -> Tensor:
        """Decode one level: its raw map -> (B, N, 5 + K)."""
        raise NotImplementedError

    @torch.no_grad()
    def set_strides(self, strides: Sequence[float]) -> None:
        """Set the strides and initialise the biases. Called once, after construction."""
        self.stride.copy_(torch.tensor(strides))
        self.init_bias()

    def init_bias(self) -> None:
        """Initialise the biases, given the strides."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        stride = self.stride
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.stride.dtype != stride.dtype:
            self.stride = stride.to(self.stride.device)
        return self


def as_levels(x: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """The levels a head reads; a model of one level hands over the map itself."""
    return [x] if isinstance(x, Tensor) else x


def cell_centres(raw: Tensor, height: int, width: int) -> Tensor:
    """(H, W, 2) x and y of the centres of a map's cells in cells, on the device of `raw`, float32."""
    y = torch.arange(height, device=raw.device, dtype=torch.float32).view(height, 1)
    x = torch.arange(width, device=raw.device, dtype=torch.float32).view(1, width)
    return torch.stack((x.expand(height, width), y.expand(height, width)), 2) + 0.5
