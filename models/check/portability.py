"""Checks of half precision, memory layouts, TorchScript and ONNX, and measurements of cost."""

from __future__ import annotations

import logging
import os
import re
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from models.check.subject import CheckFailed, Size, Skipped, Subject, mapped, require_equal, run, tensors_of
from models.flops import count_operations, parameters, uncounted

_ONNX_HINT = "pip install onnx onnxscript onnxruntime"
_COLOURS = re.compile(r"\x1b\[\d*m")
_NATIVE, _OTHER = (16, 24), (8, 32)
_COST_SIZE = (40, 40)


def half(it: Subject) -> str:
    """Forward and backward under bf16 autocast are finite."""
    module = it.make().train()
    with torch.autocast("cpu", torch.bfloat16):
        output = tensors_of(module(it.example()))
    if any(t.requires_grad for t in output):
        torch.stack([t.float().square().mean() for t in output]).sum().backward()
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    if not all(t.isfinite().all() for t in (*output, *grads)):
        raise CheckFailed("gives NaN or infinity")
    return "forward and backward"


def channels_last(it: Subject) -> str:
    """Module and maps in channels_last order, as in training, give the same output."""
    module, given = it.make().eval(), it.example()
    expected = run(module, given)
    if five := [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.dim() == 5]:
        raise CheckFailed(f"{', '.join(five)} has five axes, of which PyTorch cannot order the channels last; training would fail")
    module.to(memory_format=torch.channels_last)
    given = mapped(given, lambda tensor: tensor.contiguous(memory_format=torch.channels_last))
    require_equal(module(given), expected, 1e-5, "channels_last input")
    return "equal"


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what an exporter prints, warns and logs about a module it rejects: the reason is in its exception."""
    before, streams = logging.root.manager.disable, [os.dup(number) for number in (1, 2)]
    logging.disable()
    sys.stdout.flush()
    try:
        with Path(os.devnull).open("w") as sink, warnings.catch_warnings(), torch.no_grad():
            for number in (1, 2):  # the exporter's C++ part does not use sys.stdout
                os.dup2(sink.fileno(), number)
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout.flush()
        logging.disable(before)
        for number, stream in zip((1, 2), streams, strict=True):
            os.dup2(stream, number)
            os.close(stream)


def traces(it: Subject) -> str:
    """A TorchScript trace is correct at another size and batch."""
    module = it.make().eval()
    given = it.example(_OTHER, batch=3)
    with _quiet():
        traced = torch.jit.trace(module, (it.example(_NATIVE),), check_trace=False, strict=False)
        require_equal(traced(mapped(given, Tensor.clone)), run(module, given), 1e-5, f"traced at {_text(_NATIVE)}, run at {_text(_OTHER)}")
    return f"{_text(_NATIVE)}, then {_text(_OTHER)}"


def exports(it: Subject) -> str:
    """An ONNX graph with dynamic height and width computes the same in onnxruntime at two sizes."""
    try:
        import onnx  # noqa: F401
        import onnxruntime as ort
        import onnxscript  # noqa: F401
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as error:
        raise Skipped(_ONNX_HINT) from error
    refusals = (
        *(RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError),
        *(state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException),
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    module, reasons = it.make().eval(), []
    for way, export in (("traced", _export_traced), ("torch.export", _export_graph)):
        try:
            with _quiet(), TemporaryDirectory() as folder:
                path = Path(folder) / "module.onnx"
                export(module, it.example(_NATIVE), path)
                session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                for size in (_NATIVE, _OTHER):
                    given = it.example(size)
                    inputs = {i.name: t.numpy() for i, t in zip(session.get_inputs(), tensors_of(given), strict=True)}
                    found = [torch.from_numpy(output) for output in session.run(None, inputs)]
                    require_equal(found, run(module, given), 1e-4, f"onnxruntime at {_text(size)}")
        except (CheckFailed, *refusals) as error:
            reasons.append(f"{way}: {_COLOURS.sub('', ' '.join(str(error).split()))[:160]}")
        else:
            return f"{way}; equal at {_text(_NATIVE)} and {_text(_OTHER)}"
    raise CheckFailed("; ".join(reasons))


def _export_traced(module: nn.Module, given: Any, path: Path) -> None:
    names = [f"x{i}" for i in range(len(tensors_of(given)))]
    axes = {name: {2: "height", 3: "width"} for name in names}
    torch.onnx.export(module, (given,), path, input_names=names, dynamic_axes=axes, opset_version=17, dynamo=False)


def _export_graph(module: nn.Module, given: Any, path: Path) -> None:
    height, width = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    shapes = _shapes(given, {2: height, 3: width})
    torch.onnx.export(module, (given,), path, dynamo=True, dynamic_shapes=(shapes,), opset_version=18, verbose=False)


def _shapes(given: Any, axes: dict[int, Any]) -> Any:
    return axes if isinstance(given, Tensor) else [_shapes(g, axes) for g in given]


def counted(it: Subject) -> str:
    """The operations of every operator that is not element-wise are counted."""
    module, given = it.make().eval(), it.example()
    if names := uncounted(lambda: module(given)):
        raise CheckFailed(f"not counted: {', '.join(names)}; its GFLOPs come out too low")
    return "every operator"


def costs(it: Subject) -> str:
    """Parameters, operations and time of one forward pass."""
    module, given = it.make().eval(), it.example(_COST_SIZE, batch=1)
    times = []
    with torch.no_grad():
        with count_operations() as operations:
            module(given)
        for _ in range(5):
            start = time.perf_counter()
            module(given)
            times.append(time.perf_counter() - start)
    milliseconds = statistics.median(times) * 1e3
    return f"{parameters(module):,} parameters, {operations.giga:.4f} GFLOPs, {milliseconds:.2f} ms at {_text(_COST_SIZE)}"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
