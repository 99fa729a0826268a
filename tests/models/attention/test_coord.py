"""Coordinate attention: the formula on a small map, the authors' names, the published parameter count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.attention.coord import CoordAtt
from models.flops import parameters


def gates(module: CoordAtt, x: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's equations 4 to 7 for one image, position by position."""
    norm = module.bn1
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    rows = [x[:, y].mean(1) for y in range(x.shape[1])]
    columns = [x[:, :, i].mean(1) for i in range(x.shape[2])]
    found = []
    for vectors, conv in ((rows, module.conv_h), (columns, module.conv_w)):
        out = []
        for v in vectors:
            f = module.conv1.weight[:, :, 0, 0] @ v + module.conv1.bias
            f = (f - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
            f = f * (f + 3).clamp(0, 6) / 6
            out.append(1 / (1 + (-(conv.weight[:, :, 0, 0] @ f + conv.bias)).exp()))
        found.append(torch.stack(out, 1))
    return found[0], found[1]


def test_the_formula() -> None:
    module = CoordAtt(12, 4).double().eval()
    assert isinstance(module.bn1, nn.BatchNorm2d)
    nn.init.uniform_(module.bn1.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
    nn.init.uniform_(module.bn1.running_var, 0.01, 0.02)  # type: ignore[arg-type]
    x = torch.randn(1, 12, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        by_row, by_column = gates(module, x[0])
        expected = x[0] * by_row[:, :, None] * by_column[:, None, :]
        torch.testing.assert_close(module(x)[0], expected)


def test_the_authors_names_and_shapes() -> None:
    state = {name: tuple(t.shape) for name, t in CoordAtt(32).state_dict().items()}
    assert state == {
        "conv1.weight": (8, 32, 1, 1),
        "conv1.bias": (8,),
        "bn1.weight": (8,),
        "bn1.bias": (8,),
        "bn1.running_mean": (8,),
        "bn1.running_var": (8,),
        "bn1.num_batches_tracked": (),
        "conv_h.weight": (32, 8, 1, 1),
        "conv_h.bias": (32,),
        "conv_w.weight": (32, 8, 1, 1),
        "conv_w.bias": (32,),
    }
    assert parameters(CoordAtt(32)) == 856


def test_the_squeeze_has_at_least_eight_channels() -> None:
    assert [CoordAtt(channels).conv1.out_channels for channels in (4, 256, 512)] == [8, 8, 16]


def test_one_cell_passes_in_training() -> None:
    assert CoordAtt(16).train()(torch.randn(1, 16, 1, 1)).shape == (1, 16, 1, 1)
