"""Frozen rows."""

import pytest
import torch
from torch import nn

from models.weights.transfer import RowReport, TransferReport
from utils.errors import UserError
from utils.training.freeze import freeze, frozen_rows, train_mode, untrained


def test_rows():
    assert frozen_rows((0,), 5) == frozenset()
    assert frozen_rows((3,), 5) == {0, 1, 2}
    assert frozen_rows((3, 1), 5) == {1, 3}


@pytest.mark.parametrize(("rows", "message"), [((6,), "no row 5"), ((1, 5), "no row 5"), ((-1,), "no row -1"), ((5,), "nothing is left")])
def test_wrong_rows(rows, message):
    with pytest.raises(UserError, match=message):
        frozen_rows(rows, 5)


def test_frozen_rows_with_new_weights_are_named():
    rows = (RowReport(0, 0, "Conv", 6, 0, ()), RowReport(1, None, "CBAM", 0, 3, ()), RowReport(2, 1, "C3", 4, 0, ("width 8 -> 16",)))
    report = TransferReport(10, 12, rows, 0, frozenset(), 0.8, "w.pt")
    assert untrained({0, 1, 2}, report) == [1, 2]
    assert untrained({0}, report) == []
    assert untrained({1, 0}, None) == [0, 1], "without pretrained weights"


def test_frozen_statistics_stay():
    layers = [nn.BatchNorm2d(2), nn.BatchNorm2d(2)]
    model = nn.Sequential(*layers)
    freeze(layers, [0])
    train_mode(model, layers, [0])
    model(torch.randn(4, 2, 3, 3) + 5)
    assert layers[0].running_mean.tolist() == [0, 0]
    assert layers[1].running_mean.abs().min() > 0
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
