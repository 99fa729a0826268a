"""OpenVINO models: a folder with an .xml, its .bin and a YAML of metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.files.yaml_file import read_yaml
from utils.inference.runtimes.metadata import parse_metadata
from utils.inference.runtimes.session import Shape, check_size, one_error, require

INSTALL = "pip install openvino"


class OpenVinoSession:
    """An OpenVINO model on the CPU: one image input, the detections its first output."""

    def __init__(self, path: Path, device: torch.device) -> None:  # noqa: ARG002 - OpenVINO's devices are other ones than torch's
        ov = require("openvino", f"{path}: reading OpenVINO", INSTALL)
        xml = model_file(path)
        yamls = sorted(xml.parent.glob("*.yaml"))
        self.metadata = parse_metadata(read_yaml(yamls[0]) if yamls else {}, str(path))
        self._path = path
        # On CPUs with units for it, OpenVINO would take bf16 for every model.
        precision = {} if self.metadata.half else {"INFERENCE_PRECISION_HINT": "f32"}
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads(), **precision}
        with one_error(f"{path}: OpenVINO cannot load it"):
            core = ov.Core()
            model = core.read_model(xml)
            _check_input(model, path)
            self.shape = _shape(model.inputs[0].partial_shape)
            self._compiled = core.compile_model(model, "CPU", settings)

    def __call__(self, images: Tensor) -> Tensor:
        with one_error(f"{self._path}: OpenVINO cannot run it"):
            found = self._compiled([images.cpu().contiguous().numpy()])[0]
            return torch.from_numpy(np.array(found, np.float32))  # a copy: the next run writes into the same memory


def model_file(path: Path) -> Path:
    """The .xml of a model, given itself or its folder.

    Raises:
        UserError: there is none, or its .bin is missing.
    """
    found = sorted(path.glob("*.xml")) if path.is_dir() else [path]
    if len(found) != 1:
        raise UserError(f"{path}: has {len(found)} .xml files; an OpenVINO model has one")
    for file in (found[0], found[0].with_suffix(".bin")):
        check_size(file)
    return found[0]


def _check_input(model: Any, path: Path) -> None:
    inputs = [(i.partial_shape, i.element_type.get_type_name()) for i in model.inputs]
    if len(inputs) != 1 or inputs[0][0].rank.is_dynamic or len(inputs[0][0]) != 4 or inputs[0][1] not in ("f32", "f16"):
        found = ", ".join(f"{shape} {kind}" for shape, kind in inputs[:4])
        raise UserError(f"{path}: is no YOLOv5 detector: it has {len(inputs)} inputs ({found}), expected images (B, 3, H, W) of floats")


def _shape(partial: Any) -> Shape:
    b, c, h, w = (side.get_length() if side.is_static else None for side in partial)
    return (b, c, h, w)
