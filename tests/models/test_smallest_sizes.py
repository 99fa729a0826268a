"""The smallest batches that training can come to: one image at the largest stride, where a map has one pixel."""

from __future__ import annotations

import pytest
import torch

from models import build_model


@pytest.mark.parametrize("cfg", ["yolov5n", "yolov5n-p6"])
def test_one_image_of_64_pixels_has_gradients(cfg: str) -> None:
    model = build_model(cfg, 2).train()
    maps = model(torch.rand(1, 3, 64, 64))
    sum(level.square().mean() for level in maps).backward()
    missing = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.isfinite().all()]
    assert not missing
    assert all(buffer.isfinite().all() for buffer in model.buffers() if buffer.is_floating_point())
