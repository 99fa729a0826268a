"""Limits on the size of a network: one line of an untrusted YAML or checkpoint can ask for more memory than any machine has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from utils.errors import UserError

MAX_ELEMENTS = 1 << 29
"""Elements of all weights and buffers: six times YOLOv5x."""
UNCOUNTED = 1 << 25
"""Elements that are allocated before the whole network is counted: that takes 0.2 s, which most networks are too small to need."""
MAX_MODULES = 5_000
"""Modules: YOLOv5x has 565."""
MAX_ACTIVATIONS = 1 << 25
"""Elements of a tensor computed for one image of at most 256 pixels; the largest of YOLOv5x at that size has 1.3 million."""

MAX_KEPT = 4 * MAX_ACTIVATIONS
"""Elements of the outputs of all rows for that image; those of YOLOv5x have 7 million."""
MAX_WORK = 1 << 36
"""Multiplications for one image of at most 256 pixels, some seconds of one core: YOLOv5x takes 20 billion at that size."""

_SIZED = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full}
_COUNTED = {torch.arange, torch.linspace, torch.eye}


class OversizeError(UserError):
    """A network that is too large; no larger image makes it smaller."""


class _Oversized(Exception):  # noqa: N818 - passes by whoever turns a row's errors into its message
    """The network as a whole is too large; the message names the row at which."""


class _Allocations(TorchFunctionMode):
    """Counts the elements of new tensors before they are allocated, and calls `count_all` before there are too many to waste."""

    def __init__(self, count_all: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.left: float = MAX_ELEMENTS
        self._count_all = count_all

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
            raise OversizeError(f"asks for more than {MAX_ELEMENTS} weights; is one of its numbers too large?")
        if self._count_all and self.left < MAX_ELEMENTS - UNCOUNTED:
            count_all, self._count_all = self._count_all, None
            count_all()


class activations_bounded(TorchFunctionMode):  # noqa: N801 - a context manager
    """Limits the size of the tensors that are computed inside, for a chain of upsamplings grows fast, and the multiplications in all.

    Functions whose output can be far larger than their inputs are refused before they allocate it, all others afterwards. On the meta
    device, where costs at larger sizes are measured, nothing is multiplied or kept.
    """

    work = 0.0
    kept = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        elements = 0.0
        with suppress(ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # wrong arguments, which the call names
            elements = _PREDICTED[func](*args, **kwargs or {}) if func in _PREDICTED else 0.0
            self.work += elements * _TERMS[func](args[0], args[1]) if func in _TERMS and not args[0].is_meta else 0.0
        _check_activations(elements)
        if self.work > MAX_WORK:
            raise OversizeError(f"needs more than {MAX_WORK:.3g} multiplications for a small image; is one of its numbers too large?")
        output = func(*args, **kwargs or {})
        if isinstance(output, torch.Tensor):
            _check_activations(output.numel())
        return output

    def keep(self, output: torch.Tensor | Sequence[torch.Tensor]) -> None:
        """Count a row's output, which stays for later rows to read."""
        tensors = [output] if isinstance(output, torch.Tensor) else output
        self.kept += sum(tensor.numel() for tensor in tensors if not tensor.is_meta)
        if self.kept > MAX_KEPT:
            raise OversizeError(f"its output and those before it have more than {MAX_KEPT} numbers for a small image")


def _check_activations(elements: float) -> None:
    if elements > MAX_ACTIVATIONS:
        raise OversizeError(f"computes {elements:.3g} numbers for a small image, more than {MAX_ACTIVATIONS}; is a factor too large?")


def _resized(x: torch.Tensor, size: Any = None, scale_factor: Any = None, *_: Any, **__: Any) -> float:
    sides = x.shape[2:]
    if size is not None:
        return math.prod(x.shape[:2]) * (math.prod(size) if isinstance(size, tuple | list) else size ** len(sides))
    factor = math.prod(scale_factor) if isinstance(scale_factor, tuple | list) else scale_factor ** len(sides)
    return float(x.numel() * factor)


def _padded(x: torch.Tensor, pad: Any, *_: Any, **__: Any) -> float:
    before, after = pad[::2], pad[1::2]
    sides = [n + p + q for n, p, q in zip(reversed(x.shape), before, after, strict=False)]
    return float(math.prod(x.shape[: x.dim() - len(sides)]) * math.prod(sides))


def _convolved(x: torch.Tensor, weight: torch.Tensor, _bias: Any = None, stride: Any = 1, padding: Any = 0, *_: Any, **__: Any) -> float:
    steps, margins = _pair(stride), _pair(0 if isinstance(padding, str) else padding)
    return float(x.shape[0] * weight.shape[0] * math.prod((n + 2 * m) / s for n, m, s in zip(x.shape[2:], margins, steps, strict=True)))


def _transposed(
    x: torch.Tensor, weight: torch.Tensor, _bias: Any = None, stride: Any = 1, _padding: Any = 0, _out: Any = 0, groups: int = 1, *_: Any
) -> float:
    sides = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], _pair(stride), weight.shape[2:], strict=True)]
    return float(x.shape[0] * weight.shape[1] * groups * math.prod(sides))


def _product(a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> float:
    batch = max(math.prod(a.shape[:-2]), math.prod(b.shape[:-2]))
    return float(batch * a.shape[-2] * b.shape[-1])


def _projected(x: torch.Tensor, weight: torch.Tensor, *_: Any) -> float:
    return float(x.numel() // x.shape[-1] * weight.shape[0])


def _attended(q: torch.Tensor, _: torch.Tensor, v: torch.Tensor, *__: Any, **___: Any) -> float:
    return float(q.numel() // q.shape[-1] * v.shape[-1])


def _repeated(x: torch.Tensor, *sizes: Any) -> float:
    return float(x.numel() * math.prod(sizes[0] if isinstance(sizes[0], tuple | list) else sizes))


def _pair(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


_PREDICTED: dict[Any, Callable[..., float]] = {
    functional.interpolate: _resized,
    functional.pad: _padded,
    torch.conv2d: _convolved,
    torch.conv_transpose2d: _transposed,
    functional.linear: _projected,
    functional.scaled_dot_product_attention: _attended,
    torch.matmul: _product,
    torch.bmm: _product,
    torch.Tensor.matmul: _product,
    torch.Tensor.__matmul__: _product,
    torch.Tensor.repeat: _repeated,
}
"""Elements of the output of functions of PyTorch, from their arguments."""
_TERMS: dict[Any, Callable[[torch.Tensor, torch.Tensor], int]] = {
    torch.conv2d: lambda _, weight: weight.numel() // weight.shape[0],
    torch.conv_transpose2d: lambda _, weight: weight.numel() // weight.shape[1],
    functional.linear: lambda _, weight: weight.shape[1],
    functional.scaled_dot_product_attention: lambda _, keys: 4 * keys.shape[-2],  # two products, and an exponential of the time of as many
    **dict.fromkeys((torch.matmul, torch.bmm, torch.Tensor.matmul, torch.Tensor.__matmul__), lambda a, _: a.shape[-1]),
}
"""Products that are summed for each of these elements."""


@contextmanager
def bounded(build: Callable[[], object]) -> Iterator[None]:
    """Limit the weights and modules that are created inside.

    Args:
        build: creates all of them. It is called on the meta device, which takes no memory, once a network turns out to be large.

    Raises:
        UserError: too many weights, or too many modules.
    """
    modules = 0

    def count(_: nn.Module, __: str, ___: nn.Module | None) -> None:
        nonlocal modules
        modules += 1
        if modules > MAX_MODULES:
            raise OversizeError(f"consists of more than {MAX_MODULES} modules; is one of its numbers too large?")

    def count_all() -> None:
        nonlocal modules
        before, modules = modules, 0
        try:
            with _Allocations(), torch.device("meta"):
                build()
        except OversizeError as error:
            raise _Oversized(str(error)) from error
        except UserError:
            pass  # said again where it comes from
        modules = before

    hook = register_module_module_registration_hook(count)
    try:
        with _Allocations(count_all):
            yield
    except _Oversized as error:
        raise OversizeError(str(error)) from error
    finally:
        hook.remove()
