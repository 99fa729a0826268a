"""Every shipped YAML in ONNX and OpenVINO with free sizes: what it computes equals torch. All but a sample are slow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.test_every_yaml import NAMES, small
from utils.export.check import prediction_differences
from utils.export.config import ExportConfig
from utils.export.format import Job
from utils.export.images import image_batches
from utils.export.registry import FORMATS
from utils.geometry import ceil_to_stride
from utils.inference.runtimes.exported import ExportedModel

SIZES = ((1, 640, 640), (4, 640, 640), (1, 416, 608), (4, 416, 608))


def compare(name: str, entry: str, folder: Path, sizes: tuple[tuple[int, int, int], ...]) -> None:
    for package in FORMATS[entry].packages:
        pytest.importorskip(package)
    model = small(name).requires_grad_(False)
    stride = model.max_stride
    side = ceil_to_stride(160, stride)
    cfg = ExportConfig(weights="best.pt", imgsz=(side, side + stride), dynamic=True)
    path = folder / f"best{FORMATS[entry].ending}"
    FORMATS[entry].write(Job(cfg=cfg, model=model, images=image_batches(""), folder=folder), path)
    exported = ExportedModel(path, torch.device("cpu"))
    for batch, height, width in sizes:
        images = next(image_batches("")(batch, ceil_to_stride(height, stride), ceil_to_stride(width, stride)))
        with torch.inference_mode():
            differences = prediction_differences(exported(images), model(images))
        assert differences.max() < 1e-3, (batch, height, width)
        assert len(differences) >= 100


def test_a_sample(tmp_path: Path) -> None:
    compare("yolov5s-ca", "onnx", tmp_path, ((1, 128, 96), (2, 96, 160)))


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["onnx", "openvino"])
@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_torch_does(name: str, entry: str, tmp_path: Path) -> None:
    compare(name, entry, tmp_path, SIZES)
