"""Every YAML in ONNX, OpenVINO and TorchScript with free sizes, and in ncnn: it computes what torch does. All but a sample are slow.

The model's statistics are those of images like the compared ones, as a trained model's are: with those of noise its maps are a thousand
times as large, and float32 itself differs from float64 by more than what is allowed.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import build_model
from models.detector import Detector
from tests.models.test_every_yaml import NAMES, calibrated, sized
from utils.errors import UserError
from utils.export.check import prediction_differences
from utils.export.config import ExportConfig
from utils.export.format import Job
from utils.export.images import image_batches
from utils.export.registry import FORMATS
from utils.geometry import ceil_to_stride
from utils.inference.runtimes.exported import ExportedModel

Sizes = tuple[tuple[int, int, int], ...]
SIZES: Sizes = ((1, 416, 608), (4, 416, 608), (1, 640, 640), (4, 640, 640))
_BLOCKS = (
    "a2c2f acmix bot botnet bra carafe cat catnet cot cot-gated crisscross crossformer dat dyhead dysample gc gmlp "
    "gsconv halo involution irmb mixer mobilevit mobilevitv2 repmlp resmlp s2 smlp spd ufo vip"
)
NOT_IN_NCNN = {f"yolov5s-{block}" for block in _BLOCKS.split()}
"""Refused by export.py, for the reasons in docs/export.md."""
SENSITIVE = {"yolov5s-cotnet", "yolov5s-dcnv2", "yolov5s-mobilenetv2-ca"}
"""With random weights float32 itself differs from float64 by more than what is allowed."""


@torch.no_grad()
def open_gates(model: Detector) -> Detector:
    """Draw what starts near zero (gates, layer scales, shifts), so that the blocks behind it have an effect."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.abs().max() < 1e-3:
            parameter.normal_(std=0.1, generator=generator)
    return model


@lru_cache(1)
def reference(name: str, sizes: Sizes) -> tuple[Detector, list[tuple[Tensor, Tensor]]]:
    """The smallest size of a model, fused as for an export; images for each of `sizes`, rounded up to its stride; and predictions."""
    model = open_gates(build_model(sized(name, "n"), nc=3))
    draw, stride = image_batches(""), model.max_stride
    batches = [next(draw(batch, *(ceil_to_stride(side, stride) for side in sides))) for batch, *sides in sizes]
    calibrated(model, next(draw(8, *batches[-1].shape[2:]))).requires_grad_(False).fuse()
    with torch.inference_mode():
        return model, [(images, model(images)) for images in batches]


def compare(name: str, entry: str, folder: Path, sizes: Sizes) -> None:
    for package in FORMATS[entry].packages:
        pytest.importorskip(package)
    model, pairs = reference(name, sizes)
    dynamic = "dynamic" in FORMATS[entry].options
    height, width = pairs[0][0].shape[2:]
    path = folder / f"best{FORMATS[entry].ending}"
    cfg = ExportConfig(weights="best.pt", imgsz=(height, width), dynamic=dynamic)
    FORMATS[entry].write(Job(cfg=cfg, model=model, images=image_batches(""), folder=folder), path)
    exported = ExportedModel(path, torch.device("cpu"))
    for images, expected in pairs if dynamic else pairs[:1]:
        with torch.inference_mode():
            differences = prediction_differences(exported(images), expected)
        assert differences.max() < 1e-3, tuple(images.shape)
        assert len(differences) >= 100


def test_a_sample(tmp_path: Path) -> None:
    compare("yolov5s-ca", "onnx", tmp_path, ((1, 96, 160), (2, 128, 128)))


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["onnx", "openvino", "torchscript", "ncnn"])
@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_torch_does(name: str, entry: str, tmp_path: Path) -> None:
    if name in SENSITIVE:
        model, pairs = reference(name, SIZES)
        with torch.inference_mode():
            exact = [copy.deepcopy(model).double()(images.double()) for images, _ in pairs]
        assert max(prediction_differences(own.double(), e).max() for (_, own), e in zip(pairs, exact, strict=True)) > 1e-3
        pytest.skip("float32 differs from float64 by more than what is allowed")
    if entry == "ncnn" and name in NOT_IN_NCNN:
        with pytest.raises((UserError, AssertionError)):  # an operator is lacking, or it computes something else
            compare(name, entry, tmp_path, SIZES)
    else:
        compare(name, entry, tmp_path, SIZES)
