"""ONNX files in ONNX Runtime."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.inference.runtimes.metadata import parse_metadata
from utils.inference.runtimes.session import Shape, check_size, one_error, require
from utils.log import LOG

INSTALL = "pip install onnxruntime"
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxSession:
    """An ONNX file: one image input, the detections its first output."""

    def __init__(self, path: Path, device: torch.device) -> None:
        ort = require("onnxruntime", f"{path}: reading ONNX", INSTALL)
        check_size(path)
        self._path, self._failures = path, _failures()
        with one_error(f"{path}: ONNX Runtime cannot load it", *self._failures):
            self._session = ort.InferenceSession(str(path), _options(ort), providers=_providers(ort, device))
            entries = dict(self._session.get_modelmeta().custom_metadata_map)
        self.metadata = parse_metadata(entries, str(path))
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _DTYPES:
            found = ", ".join(f"{i.name} {i.shape} {i.type}" for i in inputs[:4])
            raise UserError(f"{path}: is no YOLOv5 detector: it has {len(inputs)} inputs ({found}), expected images (B, 3, H, W) of floats")
        self._input, self._dtype = inputs[0].name, _DTYPES[inputs[0].type]
        b, c, h, w = (side if isinstance(side, int) else None for side in inputs[0].shape)
        self.shape: Shape = (b, c, h, w)
        self._output = self._session.get_outputs()[0].name

    def __call__(self, images: Tensor) -> Tensor:
        with one_error(f"{self._path}: ONNX Runtime cannot run it", *self._failures):
            (found,) = self._session.run([self._output], {self._input: images.cpu().contiguous().numpy().astype(self._dtype, copy=False)})
            return torch.from_numpy(np.asarray(found, np.float32))


def _failures() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def _options(ort: Any) -> Any:
    bound_memory(ort)
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # its messages are in the exceptions
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@functools.cache
def bound_memory(ort: Any) -> None:
    """Bound what all sessions of this process take to half of the machine's memory: a file of a hundred bytes can ask for any size."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else 8 << 30
    same_as_requested = 1
    arena = ort.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": same_as_requested})
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, arena)


def _providers(ort: Any, device: torch.device) -> list[Any]:
    if device.type == "cuda":
        if "CUDAExecutionProvider" in ort.get_available_providers():
            return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]
        LOG.warning("this ONNX Runtime has no CUDA: the model runs on the CPU (pip install onnxruntime-gpu)")
    return ["CPUExecutionProvider"]
