"""Counting parameters and floating-point operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode


def parameters(model: nn.Module) -> int:
    """Number of parameters; buffers do not count."""
    return sum(p.numel() for p in model.parameters())


def _convolution(args: Sequence[Any], out: Tensor) -> int:
    """Two an output pixel and weight; a transposed one spreads each pixel of its input over all weights instead."""
    x, weight, transposed = args[0], args[1], args[6]
    batch, _, *sides = (x if transposed else out).shape
    return 2 * batch * math.prod(sides) * weight.numel()


def _product(left: int) -> Callable[[Sequence[Any], Tensor], int]:
    """Two an output value and term of its sum, which is as long as the last side of argument number `left`."""
    return lambda args, out: 2 * out.numel() * args[left].shape[-1]


def _norm(args: Sequence[Any], _out: Any) -> int:
    return 2 * args[0].numel()


def _butterflies(x: Tensor, dims: Sequence[int]) -> int:
    """5 N log2 N, the convention for a complex transform; one of real numbers takes half."""
    return round(5 * x.numel() * math.log2(max(math.prod(x.shape[d] for d in dims), 1)))


_FORMULAS: dict[str, Callable[[Sequence[Any], Any], int]] = {
    "convolution": _convolution,
    "mm": _product(0),
    "bmm": _product(0),
    "mv": _product(0),
    "dot": _product(0),
    "addmm": _product(1),
    "addmv": _product(1),
    "baddbmm": _product(1),
    "_fft_r2c": lambda args, _out: _butterflies(args[0], args[1]) // 2,
    "_fft_c2r": lambda args, out: _butterflies(out, args[1]) // 2,
    "_fft_c2c": lambda args, _out: _butterflies(args[0], args[1]),
}
"""ATen operators by name: operations from the arguments and the result."""

# Operators that touch each element about once, in place (with a last underscore) or not, where some PyTorch does not call them point-wise.
_LIGHT_NAMES = """
    _adaptive_avg_pool2d _assert_async _local_scalar_dense _log_softmax _prelu_kernel _reshape_copy _safe_softmax _softmax _to_copy
    _unsafe_index _unsafe_view _upsample_nearest_exact2d adaptive_max_pool2d amax amin any arange argmax avg_pool2d bernoulli cat celu
    clone col2im constant_pad_nd contiguous copy cumsum detach diag_embed elu empty empty_like empty_strided eye fill flip full
    full_like gather glu grid_sampler_2d hardsigmoid hardswish hardtanh im2col index index_put index_select leaky_relu lift_fresh
    linalg_vector_norm linspace log_sigmoid_forward logsumexp max max_pool2d max_pool2d_with_indices mean min mish native_dropout
    native_group_norm native_layer_norm new_empty new_full new_ones new_zeros normal ones ones_like pixel_shuffle pixel_unshuffle prod
    rand rand_like randn reflection_pad2d repeat repeat_interleave replication_pad2d resize resolve_conj resolve_neg roll
    rrelu_with_noise scalar_tensor scatter select_backward slice_backward softmax sort split_with_sizes_copy stack std std_mean sum topk
    tril triu uniform upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest2d var var_mean view_as_complex
    view_as_real where zero zeros zeros_like
"""
_LIGHT = frozenset(_LIGHT_NAMES.split())


class Operations(TorchDispatchMode):
    """Counts the operations of what runs inside; made by `count_operations`.

    Attributes:
        total: floating-point operations.
        uncounted: names of the operators met that have no formula although they may do more than touch each element.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.uncounted: set[str] = set()

    @property
    def giga(self) -> float:
        """1e9 floating-point operations."""
        return self.total / 1e9

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count it; a composite one is counted by its parts."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        # A batch norm has many names, which depend on the device and change with PyTorch's version.
        formula = _norm if "batch_norm" in name and "backward" not in name else _FORMULAS.get(name)
        if formula is None or formula is _norm:
            with self:
                whole = func.decompose(*args, **kwargs)
            if whole is not NotImplemented:
                return whole
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(args, out)
        elif not (name.removesuffix("_") in _LIGHT or func.is_view or torch.Tag.pointwise in func.tags or func.namespace == "prim"):
            self.uncounted.add(str(func.overloadpacket))
        return out


@contextmanager
def count_operations() -> Iterator[Operations]:
    """Count the operations of convolutions, matrix products and attention that run inside, a multiply-add as two.

    A batch norm counts a multiply-add per element, as in YOLOv5's tables; a fused one counts
    nothing. Fourier transforms count 5 N log2 N, half of it for real numbers. Biases, activations and element-wise gates are not counted.

    The counts are independent of the device and PyTorch's version: attention, whose fused kernels differ, is decomposed into matrix
    products, which take memory for all logits where tensors are not on the meta device.
    """
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), Operations() as operations:
            yield operations
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def uncounted(run: Callable[[], object]) -> list[str]:
    """Names of the operators `run` calls that `count_operations` leaves out although they may do more than touch each element."""
    with torch.no_grad(), count_operations() as operations:
        run()
    return sorted(operations.uncounted)


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
