"""What a model costs: parameters and operations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module) -> int:
    """Number of parameters; buffers do not count."""
    return sum(p.numel() for p in model.parameters())


class Operations:
    """A counter that `count_operations` fills.

    Attributes:
        giga: 1e9 floating-point operations.
    """

    giga: float = 0.0


def _norm(x: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(x)


_FORMULAS = {
    torch.ops.aten.native_batch_norm: _norm,
    torch.ops.aten.cudnn_batch_norm: _norm,
}


@contextmanager
def count_operations() -> Iterator[Operations]:
    """Count the operations of convolutions, matrix products and attention that run inside, a multiply-add as two.

    A batch norm counts a multiply-add an element, with which the figures are those of YOLOv5's tables; a folded one counts
    nothing. Biases, activations and element-wise gates are not counted.
    """
    counted = Operations()
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        yield counted
    counted.giga = counter.get_total_flops() / 1e9


def gflops(model: nn.Module, imgsz: int | tuple[int, int] = 640, ch: int = 3) -> float:
    """Operations of one forward pass in evaluation mode, in 1e9, for an image of `imgsz` (a side, or height and width).

    Nothing is computed: parameters and image stand on the meta device for the pass, and the model stays as it is.
    """
    sides = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    tensors: dict[str, Any] = {name: torch.empty_like(t, device="meta") for name, t in (*model.named_parameters(), *model.named_buffers())}
    dtype = next(model.parameters()).dtype
    training = [m for m in model.modules() if m.training]
    model.eval()
    try:
        with torch.no_grad(), count_operations() as operations:
            functional_call(model, tensors, (torch.empty(1, ch, *sides, device="meta", dtype=dtype),))
    finally:
        for module in training:
            module.training = True
    return operations.giga
