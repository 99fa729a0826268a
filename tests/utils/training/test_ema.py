"""EMA of the weights."""

import pytest
import torch
from torch import nn

from utils.training.ema import ModelEMA


@pytest.mark.parametrize(("updates", "decay"), [(1, 0.0005), (500, 0.2212), (2000, 0.6321), (6000, 0.9501), (20000, 0.99985)])
def test_decay_grows(updates, decay):
    ema = ModelEMA(nn.Linear(1, 1))
    ema.updates = updates
    assert ema.decay() == pytest.approx(decay, abs=6e-5)


@pytest.mark.parametrize(("updates", "decay"), [(1, 0.0194), (50, 0.6195), (500, 0.98)])
def test_a_horizon_limits_the_average_to_so_many_updates(updates, decay):
    ema = ModelEMA(nn.Linear(1, 1), horizon=50)
    ema.updates = updates
    assert ema.decay() == pytest.approx(decay, abs=6e-5)


def test_update_follows_weights_and_statistics():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(model[0].weight, 1.0)
    ema = ModelEMA(model, horizon=2)
    ema.updates = 10**6  # the limit: half of the past
    with torch.no_grad():
        model[0].weight.fill_(3.0)
        model[1].running_mean.fill_(8.0)
        model[1].num_batches_tracked.fill_(7)
    ema.update()
    assert ema.module[0].weight.item() == 2.0
    assert ema.module[1].running_mean.item() == 4.0
    assert ema.module[1].num_batches_tracked.item() == 7
    assert model[0].weight.item() == 3.0
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
