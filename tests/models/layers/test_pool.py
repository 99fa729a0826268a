"""Sizes and groups of pyramid pooling."""

from __future__ import annotations

import pytest
import torch

from models.layers.pool import SPPCSPC, SPPCSPC_group


def test_sppcspc_is_as_large_as_in_yolov7() -> None:
    """The figure that YOLOv7 prints for its layer 51."""
    with torch.device("meta"):
        assert sum(p.numel() for p in SPPCSPC(1024, 512).parameters()) == 7609344


def test_groups() -> None:
    assert {m.groups for m in SPPCSPC_group(8, 12).modules() if isinstance(m, torch.nn.Conv2d)} == {4}
    with pytest.raises(ValueError, match="SPPCSPC_group: c2 must be a multiple of 4, not 10; 8 or 12 would fit"):
        SPPCSPC_group(8, 10)
