"""From bytes to values."""

from __future__ import annotations

import pytest
import torch

from utils.images.tensors import to_float


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_become_channels_last_values(dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    values = to_float(images, torch.device("cpu"), dtype)
    assert values.dtype is dtype
    assert values.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(values, images.to(dtype) / 255)
