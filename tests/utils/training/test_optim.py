"""Parameter groups and the schedule's curve."""

import math

import pytest
import torch
from torch import nn

from utils.config import Hyp
from utils.training.optim import Schedule, accumulation, apply_setting, build_optimizer, parameter_groups


class Odd(nn.Module):
    """One parameter of each kind that is not a linear map's weight, and one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)  # in_proj_weight and out_proj.weight decay, two biases
        self.norm = nn.LayerNorm(4)
        self.gamma = nn.Parameter(torch.ones(4, 1, 1))
        self.pos_embed = nn.Parameter(torch.zeros(1, 9, 4))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 1))
        self.rel_h = nn.Parameter(torch.zeros(1, 3, 4))
        self.g = nn.Parameter(torch.zeros(()))
        self.proj = nn.Linear(4, 4, bias=False)


def test_groups_of_odd_parameters():
    biases, decayed, undecayed = parameter_groups(Odd())
    assert (len(biases), len(decayed), len(undecayed)) == (3, 3, 6)


def test_groups_of_yolov5():
    models = pytest.importorskip("models")
    biases, decayed, undecayed = parameter_groups(models.build_model("yolov5n.yaml"))
    assert (len(biases), len(decayed), len(undecayed)) == (60, 60, 57)


def test_frozen_parameters_are_left_out():
    model = Odd()
    model.attention.requires_grad_(requires_grad=False)
    assert [len(g) for g in parameter_groups(model)] == [1, 1, 6]


@pytest.mark.parametrize(("batch", "factor"), [(16, 1), (24, 1.125), (40, 1.25), (48, 0.75), (96, 1.5), (128, 2)])
def test_decay_belongs_to_the_nominal_batch(batch, factor):
    optimizer = build_optimizer(Odd(), "SGD", Hyp(), batch)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0, pytest.approx(0.0005 * factor), 0]
    assert all(g["nesterov"] and g["momentum"] == 0.937 for g in optimizer.param_groups)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_adam_takes_momentum_as_beta1(name):
    optimizer = build_optimizer(Odd(), name, Hyp(), 64)
    assert optimizer.param_groups[0]["betas"] == (0.937, 0.999)
    apply_setting(optimizer, Schedule(Hyp(), 10, 100, 64).at(0, 0))
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0, 0]
    assert optimizer.param_groups[0]["betas"] == (0.937, 0.999)


def test_linear_and_cosine():
    linear, cosine = Schedule(Hyp(), 100, 500, 16), Schedule(Hyp(), 100, 500, 16, cosine=True)
    assert [linear.factor(e) for e in (0, 50, 100)] == pytest.approx([1, 0.505, 0.01])
    assert [cosine.factor(e) for e in (0, 25, 50, 100)] == pytest.approx([1, 0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2, 0.505, 0.01])


def test_warm_up():
    schedule = Schedule(Hyp(), 100, 500, 16)
    assert schedule.warmup == 1500
    start, middle, end = schedule.at(0, 0), schedule.at(750, 1), schedule.at(1500, 3)
    assert (start.lr, start.momentum, start.accumulate) == ((0.1, 0, 0), 0.8, 1)
    lr = 0.01 * (0.99 * 0.99 + 0.01)
    assert middle.lr == pytest.approx(((0.1 + lr) / 2, lr / 2, lr / 2))
    assert (middle.momentum, middle.accumulate) == (pytest.approx(0.8685), 2)  # 2.5 to the even number
    assert end.lr == pytest.approx((0.01 * (0.97 * 0.99 + 0.01),) * 3)
    assert (end.momentum, end.accumulate) == (pytest.approx(0.937), 4)
    assert schedule.at(1501, 3) == ((0.01 * schedule.factor(3),) * 3, 0.937, 4)


def test_short_runs_warm_up_for_100_steps():
    assert Schedule(Hyp(), 10, 8, 16).warmup == 100
    assert Schedule(Hyp(warmup_epochs=0), 10, 500, 16).warmup == 100
    assert Schedule(Hyp(warmup_epochs=1, warmup_steps=1), 10, 8, 16).warmup == 8


def test_accumulation():
    assert [accumulation(Hyp(), b) for b in (1, 16, 24, 40, 64, 128)] == [64, 4, 3, 2, 1, 1]
    assert [accumulation(Hyp(nominal_batch=16), b) for b in (1, 8, 16, 64)] == [16, 2, 1, 1]
    assert Schedule(Hyp(nominal_batch=16), 10, 8, 16).at(500, 5).accumulate == 1


def test_weight_decay_is_that_of_the_nominal_batch():
    decays = [build_optimizer(Odd(), "SGD", hyp, 24).param_groups[1]["weight_decay"] for hyp in (Hyp(), Hyp(nominal_batch=16))]
    assert decays == pytest.approx([0.0005 * 72 / 64, 0.0005 * 24 / 16])


def test_updates_of_a_run_count_what_is_left_at_the_end_of_an_epoch():
    assert Schedule(Hyp(), 10, 9, 16).updates == 30
    assert Schedule(Hyp(nominal_batch=16), 10, 9, 16).updates == 90
