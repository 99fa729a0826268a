"""HorFPN's levels."""

from __future__ import annotations

import pytest
import torch

from models import build_model
from models.necks.horfpn import HorFPN


@torch.no_grad()
def test_levels_beyond_the_inputs_are_every_second_pixel() -> None:
    pyramid = HorFPN((8, 16), 8, num_outs=4).double().eval()
    maps = [torch.rand(1, 8, 12, 10).double(), torch.rand(1, 16, 6, 5).double()]
    found = pyramid(maps)
    assert [tuple(level.shape[1:]) for level in found] == [(8, 12, 10), (8, 6, 5), (8, 3, 3), (8, 2, 2)]
    assert torch.equal(found[2], found[1][..., ::2, ::2])
    assert torch.equal(found[3], found[2][..., ::2, ::2])
    top, below = pyramid.lateral_convs[1](maps[1]), pyramid.lateral_convs[0](maps[0])
    near = top.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(found[1], pyramid.fpn_convs[1](top))
    assert torch.equal(found[0], pyramid.fpn_convs[0](below + near))


def test_a_row_says_how_many() -> None:
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [[0, 1], 1, "HorFPN", [64, False, 32, 17, 3]]]
    head = [[2, 1, "Feature", [k]] for k in range(3)] + [[[3, 4, 5], 1, "Detect", ["nc", [[10, 13]] * 3]]]
    model = build_model({"nc": 1, "anchors": [[10, 13]] * 3, "backbone": rows, "head": head})
    assert model.stride.tolist() == [2, 4, 8]


def test_fewer_levels_than_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="num_outs must be at least the number of its inputs, 2, not 1"):
        HorFPN((8, 16), 8, num_outs=1)
