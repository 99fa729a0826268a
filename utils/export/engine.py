"""TensorRT engines, built from ONNX on the machine that runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.export import onnx
from utils.export.format import Format, Job
from utils.inference.runtimes.session import one_error, require

INSTALL = f"{onnx.INSTALL} tensorrt, on the machine with the NVIDIA GPU that the engine is for"


def write(job: Job, path: Path) -> None:
    """Build an engine; the metadata is a JSON text with its length before it, as in YOLOv5's.

    Raises:
        UserError: there is no GPU, or TensorRT cannot build it.
    """
    trt = require("tensorrt", "engine", INSTALL)
    if not torch.cuda.is_available():
        raise UserError("TensorRT builds an engine on the NVIDIA GPU that runs it, and this machine has none")
    source = job.folder / "engine.onnx"
    onnx.write(job, source)
    logger = trt.Logger(trt.Logger.ERROR)
    with one_error("TensorRT cannot build it"):
        builder = trt.Builder(logger)
        strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # fp16 where the ONNX has it
        network = builder.create_network(0 if strong is None else 1 << int(strong))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(source.read_bytes()):
            raise UserError(f"TensorRT cannot read the ONNX: {parser.get_error(0)}")
        engine = builder.build_serialized_network(network, _settings(trt, builder, job))
        if engine is None:
            raise UserError("TensorRT cannot build it; its messages are above")
        text = json.dumps(job.metadata).encode()
        path.write_bytes(len(text).to_bytes(4, "little", signed=True) + text + bytes(engine))


def _settings(trt: Any, builder: Any, job: Job) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(job.cfg.workspace * (1 << 30)))
    if job.cfg.dynamic:
        batch, channels, height, width = job.cfg.shape
        profile = builder.create_optimization_profile()
        least, most = (1, channels, job.model.max_stride, job.model.max_stride), (max(batch, 16), channels, 2 * height, 2 * width)
        profile.set_shape("images", least, job.cfg.shape, most)
        config.add_optimization_profile(profile)
    return config


FORMAT = Format(
    name="engine",
    ending=".engine",
    packages=("onnx", "onnxruntime", "tensorrt"),
    install=INSTALL,
    write=write,
    options=frozenset({"half", "dynamic", "nms"}),
)
