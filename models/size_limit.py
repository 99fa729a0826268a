"""Limits on the size of a network: one line of an untrusted YAML or checkpoint can ask for more memory than any machine has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from utils.errors import UserError

MAX_ELEMENTS = 1 << 29
"""Elements of all weights and buffers: six times YOLOv5x."""
MAX_MODULES = 5_000
"""Modules: YOLOv5x has 565."""
MAX_ACTIVATIONS = 1 << 25
"""Elements of a tensor computed for one image of at most 256 pixels; the largest of YOLOv5x at that size has 1.3 million."""

_SIZED = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}
_COUNTED = {torch.arange, torch.linspace, torch.eye}


class _Allocations(TorchFunctionMode):
    """Counts the elements of new tensors before they are allocated."""

    left: float = MAX_ELEMENTS

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _SIZED:
            sizes = args[:1] if func is torch.full else args
            flat = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
            self._take(math.prod(n for n in flat if isinstance(n, int)))
        elif func in _COUNTED and args and all(isinstance(a, int | float) for a in args):
            self._take(max(map(abs, args)) ** (1 + (func is torch.eye)))
        return func(*args, **kwargs or {})

    def _take(self, count: float) -> None:
        self.left -= count
        if self.left < 0:
            raise UserError(f"asks for more than {MAX_ELEMENTS} weights; is one of its numbers too large?")


class activations_bounded(TorchFunctionMode):  # noqa: N801 - a context manager
    """Limits the size of the tensors that are computed inside, before they are allocated: a chain of upsamplings grows fast.

    Each function is called on tensors without memory first.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs: Any = ()
        with suppress(Exception):  # a function that needs values; whatever is wrong with its arguments shows below
            shapes = tree_map_only(torch.Tensor, _without_memory, (args, kwargs or {}))
            outputs = func(*shapes[0], **shapes[1])
        for output in outputs if isinstance(outputs, tuple | list) else (outputs,):
            if isinstance(output, torch.Tensor) and output.numel() > MAX_ACTIVATIONS:
                shape = " x ".join(map(str, output.shape))
                raise UserError(f"computes {shape} numbers for a small image, more than {MAX_ACTIVATIONS}; is a factor too large?")
        return func(*args, **kwargs or {})


def _without_memory(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


@contextmanager
def bounded() -> Iterator[None]:
    """Limit the weights and modules that are created inside.

    Raises:
        UserError: too many weights, or too many modules.
    """
    modules = 0

    def count(_: nn.Module, __: str, ___: nn.Module | None) -> None:
        nonlocal modules
        modules += 1
        if modules > MAX_MODULES:
            raise UserError(f"consists of more than {MAX_MODULES} modules; is one of its numbers too large?")

    hook = register_module_module_registration_hook(count)
    try:
        with _Allocations():
            yield
    finally:
        hook.remove()
