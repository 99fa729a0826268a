"""ONNX files, written by PyTorch's exporters."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.export.check import check
from utils.export.format import Format, Job
from utils.export.onnx_nms import append_nms
from utils.inference.runtimes.exported import ExportedModel
from utils.inference.runtimes.session import FAILURES, reason, require

INSTALL = "pip install onnx onnxscript onnxruntime"
_NO_SHAPE_INFERENCE_BELOW = 18  # the exporter by torch.export writes this operator set at least


def write(job: Job, path: Path) -> None:
    """Write an ONNX file: input ``images`` (B, 3, H, W), output ``output0``.

    Raises:
        UserError: neither of PyTorch's two exporters can express the model; or onnxslim is missing or fails.
    """
    onnx = require("onnx", "ONNX", INSTALL)
    slim = require("onnxslim", "--simplify", "pip install onnxslim").slim if job.cfg.simplify else lambda graph: graph
    plain = dataclasses.replace(job, cfg=dataclasses.replace(job.cfg, nms=False))
    network, reasons = job.network, []
    for way, export in (("traced", _traced), ("torch.export", _graph)):  # some operators only one of the two knows at every size
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                export(job, network, path)
            _save(slim(onnx.load(str(path))), plain, path)
            check(plain, ExportedModel(path, torch.device("cpu")))
            break
        except FAILURES as error:
            reasons.append(f"{way}: {reason(error)}")
    else:
        raise UserError("; ".join(reasons))
    if job.cfg.nms:
        _save(append_nms(onnx.load(str(path)), job.cfg, job.model.nc), job, path)


def _save(graph: Any, job: Job, path: Path) -> None:
    """Write a graph with the metadata in place of whatever it has."""
    del graph.metadata_props[:]
    for key, value in job.metadata.items():
        graph.metadata_props.add(key=key, value=str(value))
    path.write_bytes(graph.SerializeToString())


def _traced(job: Job, network: torch.nn.Module, path: Path) -> None:
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 1: "anchors"}} if job.cfg.dynamic else None
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output0"], "dynamic_axes": axes}
    torch.onnx.export(network, (job.example,), path, opset_version=job.cfg.opset, dynamo=False, **names)


def _graph(job: Job, network: torch.nn.Module, path: Path) -> None:
    example, shapes = job.graph_inputs()
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output0"], "external_data": False}
    opset = max(job.cfg.opset, _NO_SHAPE_INFERENCE_BELOW)
    torch.onnx.export(network, (example,), path, opset_version=opset, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)


FORMAT = Format(
    name="onnx",
    ending=".onnx",
    packages=("onnx", "onnxruntime"),
    install=INSTALL,
    write=write,
    options=frozenset({"half", "dynamic", "nms"}),
)
