"""TensorRT engines on an NVIDIA GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.inference.runtimes.metadata import parse_metadata
from utils.inference.runtimes.session import Shape, check_size, one_error, require

INSTALL = "pip install tensorrt"
_MAX_METADATA = 16 << 20


class EngineSession:
    """A TensorRT engine, with Attune's or YOLOv5's metadata before it."""

    def __init__(self, path: Path, device: torch.device) -> None:
        trt: Any = require("tensorrt", f"{path}: reading TensorRT", INSTALL)
        check_size(path)
        if device.type != "cuda":
            raise UserError(f"{path}: a TensorRT engine runs on an NVIDIA GPU; --device is {device}")
        content = path.read_bytes()
        length = int.from_bytes(content[:4], "little", signed=True)
        try:
            entries = json.loads(content[4 : 4 + length]) if 0 < length <= _MAX_METADATA else None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            entries = None
        if not isinstance(entries, dict):
            raise UserError(f"{path}: is no engine of Attune or YOLOv5: it does not begin with metadata")
        self.metadata = parse_metadata(entries, str(path))
        self._path, self._device = path, device
        with one_error(f"{path}: TensorRT cannot load it"):
            engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(content[4 + length :])
            if engine is None:
                raise UserError(f"{path}: TensorRT cannot load it: it is damaged, or built for another GPU or version of TensorRT")
            self._context = engine.create_execution_context()
        b, c, h, w = (side if side > 0 else None for side in engine.get_tensor_shape("images"))
        self.shape: Shape = (b, c, h, w)
        self._dtype = torch.float16 if engine.get_tensor_dtype("images") == trt.DataType.HALF else torch.float32

    def __call__(self, images: Tensor) -> Tensor:
        x = images.to(self._device, self._dtype).contiguous()
        with one_error(f"{self._path}: TensorRT cannot run it"):
            self._context.set_input_shape("images", tuple(x.shape))
            found = torch.empty(tuple(self._context.get_tensor_shape("output0")), dtype=torch.float32, device=self._device)
            self._context.set_tensor_address("images", x.data_ptr())
            self._context.set_tensor_address("output0", found.data_ptr())
            self._context.execute_async_v3(torch.cuda.current_stream(self._device).cuda_stream)
        return found
