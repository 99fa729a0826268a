"""LiteRT (TensorFlow Lite) files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from utils.export.fixed_size import fixed_size
from utils.export.format import Format, Job
from utils.inference.runtimes.litert import append_metadata
from utils.inference.runtimes.session import one_error, require

INSTALL = "pip install litert-torch ai-edge-litert"


def write(job: Job, path: Path) -> None:
    """Write a flatbuffer: input (B, 3, H, W), output (B, N, 5 + K), both float32; the metadata is a JSON text behind it.

    Raises:
        UserError: litert-torch cannot convert the model.
    """
    litert = require("litert_torch", "litert", INSTALL)
    with one_error("litert-torch cannot convert it"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litert.convert(fixed_size(job).eval(), (job.example,)).export(str(path))
    append_metadata(path, json.dumps(job.metadata))


FORMAT = Format(
    name="litert",
    ending=".tflite",
    packages=("litert_torch", "ai_edge_litert"),
    install=INSTALL,
    write=write,
    options=frozenset(),
)
