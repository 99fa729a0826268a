"""What the tests share that compare a block with its formula written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def opened(block: Any) -> Any:
    """Random in place of zeros and ones; in evaluation and float64."""
    for tensor in block.state_dict().values():
        if tensor.is_floating_point() and (not tensor.any() or (tensor == 1).all()):
            tensor.uniform_(0.5, 2)
    return block.double().eval()


def randomized(block: Any) -> Any:
    """Random weights, also in place of zeros and ones; in evaluation and float64."""
    for parameter in block.parameters():
        parameter.normal_(std=0.5)
    return block.double().eval()


def linear(x: Tensor, conv: nn.Module) -> Tensor:
    """A 1x1 convolution, written out."""
    y = torch.einsum("dc,bchw->bdhw", conv.weight[:, :, 0, 0], x)
    return y if conv.bias is None else y + conv.bias[:, None, None]
