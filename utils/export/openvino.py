"""OpenVINO models, converted from ONNX; int8 by NNCF."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import yaml

from utils.export import onnx
from utils.export.format import Format, Job
from utils.inference.runtimes.session import one_error, require

INSTALL = f"{onnx.INSTALL} openvino"
INSTALL_INT8 = "pip install nncf"
CALIBRATION_IMAGES = 128


def write(job: Job, path: Path) -> None:
    """Write a folder with an .xml, its .bin, and a YAML of metadata.

    Raises:
        UserError: the model cannot be expressed in ONNX, or OpenVINO cannot read it.
    """
    ov = require("openvino", "OpenVINO", INSTALL)
    source = job.folder / "openvino.onnx"
    onnx.write(job, source)
    with one_error("OpenVINO cannot convert it"):
        model = ov.convert_model(str(source))
        if job.cfg.int8:
            model = _quantized(model, job)
        path.mkdir()
        stem = Path(job.cfg.weights).stem
        ov.save_model(model, str(path / f"{stem}.xml"), compress_to_fp16=job.cfg.half)
    (path / f"{stem}.yaml").write_text(yaml.safe_dump(job.metadata, sort_keys=False), encoding="utf-8")


def _quantized(model: Any, job: Job) -> Any:
    """Quantize to int8; the head, whose pixels 8 bits cannot tell apart, stays in float32."""
    nncf = require("nncf", "--int8 with openvino", INSTALL_INT8)
    nncf.set_log_level(logging.ERROR)
    images = itertools.islice(job.images(1, *job.cfg.shape[2:]), CALIBRATION_IMAGES)
    data = nncf.Dataset([image.numpy() for image in images])
    head = nncf.IgnoredScope(names=_head(model))
    return nncf.quantize(model, data, preset=nncf.QuantizationPreset.MIXED, subset_size=CALIBRATION_IMAGES, ignored_scope=head)


def _head(model: Any) -> list[str]:
    """Names of the operations from the last convolutions to the output, whatever the exporter called them."""
    found: dict[str, None] = {}
    waiting = [source.get_node() for result in model.get_results() for source in result.input_values()]
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if node.get_type_name() in ("Constant", "Parameter") or name in found:
            continue
        found[name] = None
        if node.get_type_name() != "Convolution":
            waiting += [source.get_node() for source in node.input_values()]
    return list(found)


FORMAT = Format(
    name="openvino",
    ending="_openvino_model",
    packages=("onnx", "onnxruntime", "openvino"),
    install=INSTALL,
    write=write,
    options=frozenset({"half", "int8", "dynamic", "nms"}),
)
