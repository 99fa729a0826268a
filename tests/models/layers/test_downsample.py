"""Halving a map: which value goes where."""

from __future__ import annotations

import pytest
import torch

from models.layers.conv import Conv
from models.layers.downsample import DWT, DownC, ReOrg, SpaceToDepth, Stem
from models.layers.pool import MP, SP


def test_space_to_depth_puts_rows_before_columns() -> None:
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert SpaceToDepth()(x).flatten().tolist() == [0, 2, 1, 3]
    assert torch.equal(ReOrg()(x), SpaceToDepth(1)(x))
    maps = torch.randn(2, 3, 6, 4)
    assert torch.equal(SpaceToDepth()(maps)[:, 3:6], maps[:, :, 1::2, ::2])
    with pytest.raises(ValueError, match="dimension must be 1, the channels, not 2"):
        SpaceToDepth(2)  # type: ignore[arg-type]


def test_the_wavelet_transform_of_a_block() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    assert DWT()(x).flatten().tolist() == [2.5, -0.5, 0, 0.5]
    maps = torch.rand(2, 3, 6, 4, dtype=torch.float64)
    bands = DWT()(maps)
    assert bands.min() >= 0
    assert bands.max() <= 1
    mean, details = bands[:, :3], bands[:, 3:].unflatten(1, (3, 3)) - 0.5
    torch.testing.assert_close(mean + details.sum(2), maps[:, :, ::2, ::2])  # nothing is lost
    torch.testing.assert_close(mean - details[:, :, 0] - details[:, :, 1] + details[:, :, 2], maps[:, :, 1::2, 1::2])


def test_pools_beside_convolutions_of_the_same_stride_fit() -> None:
    for size in ((8, 8), (13, 20), (1, 1), (7, 5)):
        x = torch.rand(2, 4, *size)
        assert MP()(x).shape == Conv(4, 4, 3, 2)(x).shape if size != (1, 1) else MP()(x).shape == x.shape
        assert SP(5)(x).shape == x.shape
    x = torch.rand(1, 1, 4, 4)
    assert torch.equal(MP()(x), torch.nn.functional.max_pool2d(x, 2))
    with pytest.raises(ValueError, match="SP: k must be odd, not 4"):
        SP(4)


def test_widths_and_sizes() -> None:
    x = torch.rand(2, 8, 13, 20)
    assert DownC(8, 11)(x).shape == (2, 11, 7, 10)
    assert DownC(8, 12, 3)(x).shape == (2, 12, 5, 7)
    assert Stem(8, 12)(x).shape == (2, 12, 4, 5)
