"""All formats, by their name for ``--include``."""

from __future__ import annotations

from utils.errors import UserError, nearest
from utils.export import coreml, engine, litert, ncnn, onnx, openvino, pt2, torchscript
from utils.export.format import Format

FORMATS = {writer.FORMAT.name: writer.FORMAT for writer in (onnx, openvino, torchscript, ncnn, coreml, litert, engine, pt2)}

_YOLOV5_NAMES = {"tflite": "litert"}
_NOT_WRITTEN = {"saved_model", "pb", "edgetpu", "tfjs", "paddle"}
"""YOLOv5's other formats."""


def find_format(name: str) -> Format:
    """Look up a format; YOLOv5's name of one is known too.

    Raises:
        UserError: there is none of that name; suggests the nearest.
    """
    name = _YOLOV5_NAMES.get(name.lower(), name.lower())
    if name in _NOT_WRITTEN:
        raise UserError(
            f"--include {name} is not supported: of TensorFlow's and Paddle's formats there is litert only; convert an ONNX file"
        )
    if name not in FORMATS:
        raise UserError(f"--include {name}: no such format{nearest(name, FORMATS)} (there are {', '.join(FORMATS)})")
    return FORMATS[name]
