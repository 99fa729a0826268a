"""What a model costs: parameters and operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
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


def _real_transform(x: Sequence[int], dims: Sequence[int], *_: Any, **__: Any) -> int:
    return _butterflies(x, dims) // 2


def _inverse_transform(_x: Sequence[int], dims: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return _butterflies(out_shape, dims) // 2


def _transform(x: Sequence[int], dims: Sequence[int], *_: Any, **__: Any) -> int:
    return _butterflies(x, dims)


def _butterflies(shape: Sequence[int], dims: Sequence[int]) -> int:
    """5 N log2 N, the convention for a complex transform; one of real numbers takes half."""
    return round(5 * math.prod(shape) * math.log2(max(math.prod(shape[d] for d in dims), 1)))


_FORMULAS = {
    torch.ops.aten.native_batch_norm: _norm,
    torch.ops.aten.cudnn_batch_norm: _norm,
    torch.ops.aten._fft_r2c: _real_transform,
    torch.ops.aten._fft_c2r: _inverse_transform,
    torch.ops.aten._fft_c2c: _transform,
}


@contextmanager
def count_operations() -> Iterator[Operations]:
    """Count the operations of convolutions, matrix products and attention that run inside, a multiply-add as two.

    A batch norm counts a multiply-add an element, with which the figures are those of YOLOv5's tables; a folded one counts
    nothing. Fourier transforms count 5 N log2 N, half of it for real numbers. Biases, activations and element-wise gates are not counted.
    """
    counted = Operations()
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        yield counted
    counted.giga = counter.get_total_flops() / 1e9


# Operators outside torch's point-wise ones that touch each element about once: no formula, and none missed.
_LIGHT_NAMES = """
    _adaptive_avg_pool2d _assert_async _local_scalar_dense _log_softmax _reshape_copy _safe_softmax _softmax _to_copy
    _unsafe_index _unsafe_view _upsample_nearest_exact2d adaptive_max_pool2d amax amin any arange argmax avg_pool2d bernoulli
    bernoulli_ cat clone constant_pad_nd contiguous copy copy_ cumsum detach empty empty_like empty_strided eye fill fill_ flip
    full full_like gather grid_sampler_2d hardswish index index_put index_put_ index_select lift_fresh linalg_vector_norm logsumexp max
    max_pool2d
    max_pool2d_with_indices mean min native_batch_norm native_dropout native_group_norm native_layer_norm new_empty new_full
    new_ones new_zeros normal_ ones ones_like pixel_shuffle pixel_unshuffle prod rand rand_like randn reflection_pad2d repeat
    repeat_interleave replication_pad2d resize_ resolve_conj resolve_neg roll scalar_tensor scatter select_backward slice_backward
    softmax sort split_with_sizes_copy stack std std_mean sum topk tril triu uniform_ upsample_bicubic2d upsample_bilinear2d
    upsample_linear1d upsample_nearest2d var var_mean view_as_complex view_as_real where zero_ zeros zeros_like
"""
_LIGHT = frozenset(_LIGHT_NAMES.split())


class _Uncounted(TorchDispatchMode):
    """Notes the operators that neither have a formula nor touch each element about once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()
        self.known = {*FlopCounterMode(display=False, custom_mapping=_FORMULAS).flop_registry}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in self.known:
            return func(*args, **kwargs)
        with self:  # a composite operator is judged by its parts
            whole = func.decompose(*args, **kwargs)
        if whole is not NotImplemented:
            return whole
        light = func.is_view or torch.Tag.pointwise in func.tags or func.namespace == "prim"
        if not light and func.overloadpacket.__name__ not in _LIGHT:
            self.names.add(str(func.overloadpacket))
        return func(*args, **kwargs)


def uncounted(run: Callable[[], object]) -> list[str]:
    """Names of the operators `run` calls that `count_operations` leaves out although they may do more than touch each element."""
    with torch.no_grad(), _Uncounted() as seen:
        run()
    return sorted(seen.names)


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
