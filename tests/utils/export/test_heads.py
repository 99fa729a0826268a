"""Heads in ONNX with free sizes, and with NMS in the graph: what it computes equals torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export import main
from models import build_model, load_model
from tests.tiny_model import TINY
from utils.export.check import prediction_differences
from utils.inference.nms import non_max_suppression
from utils.training.checkpoint import save_checkpoint

ort = pytest.importorskip("onnxruntime")


def tiny(head: str) -> dict[str, Any]:
    return {**TINY, "nc": 3, "head": [*TINY["head"][:-1], [[3, 4], 1, head, ["nc"]]]}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["DetectX", "DetectDFL"])
def test_onnx_with_free_sizes_and_nms_in_the_graph(head: str, tmp_path: Path) -> None:
    in_onnx(tiny(head), tmp_path)


def in_onnx(spec: dict[str, Any], folder: Path) -> None:
    path = folder / "best.pt"
    detector = build_model(spec, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # NMS of nearly equal confidences depends on the last bit
        for module in detector.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.05, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
        for conv in detector.head.modules():
            if isinstance(conv, nn.Conv2d) and conv.bias is not None:
                conv.bias.zero_()
                conv.weight.normal_(std=2, generator=generator)
    rest = {"config": {}, "hyp": {}, "epoch": 0, "metrics": {}, "ema": None, "resume": None}
    save_checkpoint(path, {"attune": 1, "spec": detector.spec.to_dict(), "names": detector.names, "model": detector.state_dict(), **rest})
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = detector(x)
    main(["--weights", str(path), "--imgsz", "64", "--include", "onnx", "--dynamic"])
    differences = prediction_differences(load_model(path.with_suffix(".onnx"))(x), expected)
    assert differences.max() < 1e-3

    limits = ["--conf-thres", "0.00001", "--iou-thres", "0.4", "--topk-all", "25", "--topk-per-class", "1000"]
    main(["--weights", str(path), "--imgsz", "64", "--include", "onnx", "--dynamic", "--nms", *limits])
    (found,) = ort.InferenceSession(str(path.with_suffix(".onnx"))).run(["output0"], {"images": x.numpy()})
    kept = non_max_suppression(expected, 0.00001, 0.4, max_det=25)
    for rows, own in zip(torch.from_numpy(found), kept, strict=True):
        assert len(own) > 5
        torch.testing.assert_close(rows[: len(own)], own, rtol=1e-4, atol=1e-3)
