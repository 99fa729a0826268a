"""Pretrained weights in a wider network of the same form, which computes the same with them.

Each wider convolution has the trained channels first and the new ones after them. The trained ones do not read the new ones: those weights
start at zero (Chen et al., "Net2Net", 2016, arXiv:1511.05641, keep the function by copies of channels instead, which start equal). The new
ones start at random and read everything, so they learn from the first step on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models.detector import Detector
from utils.errors import UserError


def widened_state(base: Detector, wide: Detector) -> dict[str, Tensor]:
    """The state of `wide` with the weights of `base`.

    Raises:
        UserError: a layer is narrower than the base's, or of a kind whose channels cannot be followed; names the tensor.
    """
    trained, state = base.state_dict(), {key: tensor.clone() for key, tensor in wide.state_dict().items()}
    sizes = {key: len(tensor) for key, tensor in trained.items() if tensor.ndim}
    tracker = _Tracker({id(p): sizes.get(name, -1) for name, p in wide.named_parameters()})
    was_training = wide.training
    image = torch.zeros(1, wide.ch, 2 * wide.max_stride, 2 * wide.max_stride)
    image.trained = torch.ones(wide.ch, dtype=torch.bool)  # type: ignore[attr-defined]
    with torch.no_grad(), tracker:
        wide.eval().maps(image)
    wide.train(was_training)
    names = {id(p): name for name, p in wide.named_parameters()}
    read = {names[key]: mask for key, mask in tracker.read.items()}
    for key, tensor in state.items():
        old = trained.get(key)
        if old is None or old.ndim != tensor.ndim or any(a > b for a, b in zip(old.shape, tensor.shape, strict=True)):
            raise UserError(f"its tensor {key} is narrower than the baseline's, or not there")
        if old.shape == tensor.shape:
            tensor.copy_(old)
        elif old.ndim == 1:
            tensor[: len(old)] = old
        elif key in read and int(read[key].sum()) == old.shape[1]:
            tensor[: len(old)] = 0
            tensor[: len(old), read[key]] = old
        else:
            raise UserError(f"the channels of its tensor {key} cannot be followed")
    return state


class _Tracker(TorchFunctionMode):
    """Follows through a forward pass which channels of each map are trained ones, as the attribute `trained` of its tensors.

    Attributes:
        read: by id of a convolution's weight, which of the channels that it reads are trained.
    """

    def __init__(self, outputs: Mapping[int, int]) -> None:
        super().__init__()
        self.read: dict[int, Tensor] = {}
        self._outputs = outputs  # number of trained outputs of each weight, by its id

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not isinstance(out, Tensor) or out.ndim != 4:
            return out
        mask: Tensor | None
        if func is torch.conv2d:
            image, weight = args[:2]
            mask = torch.arange(len(weight)) < self._outputs[id(weight)]
            if hasattr(image, "trained") and image.shape[1] == weight.shape[1]:
                self.read[id(weight)] = image.trained
        elif func is torch.cat:
            parts = [each.trained for each in args[0] if hasattr(each, "trained")]
            mask = torch.cat(parts) if len(parts) == len(args[0]) else None
        else:
            masks = [each.trained for each in args if isinstance(each, Tensor) and hasattr(each, "trained")]
            alike = masks and all(torch.equal(masks[0], each) for each in masks[1:]) and len(masks[0]) == out.shape[1]
            mask = masks[0] if alike else None
        if mask is not None:
            out.trained = mask  # type: ignore[attr-defined]
        return out
