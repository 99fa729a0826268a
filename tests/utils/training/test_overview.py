"""What a training says before its first epoch."""

from types import SimpleNamespace

import pytest

from tests.tiny_training import new_state
from utils.config import Hyp, TrainConfig
from utils.training.freeze import freeze
from utils.training.optim import Schedule
from utils.training.overview import changed, model_line, optimizer_line, short_run_line


def test_settings_that_differ():
    assert list(changed(TrainConfig())) == []
    assert list(changed(TrainConfig(epochs=3, freeze=(1, 2), cache="ram"))) == ["epochs=3", "cache=ram", "freeze=1 2"]
    assert list(changed(Hyp(lr0=0.02))) == ["lr0=0.02"]


def test_model_and_optimizer():
    state = new_state()
    total = sum(p.numel() for p in state.model.parameters())
    assert f"in {len(state.layers)} rows, {total:,} parameters, " in model_line(state.model)
    freeze(state.layers, [0])
    frozen = sum(p.numel() for p in state.layers[0].parameters())
    assert f"{total:,} parameters ({frozen:,} frozen), " in model_line(state.model)
    biases, decayed, undecayed = (len(group["params"]) for group in state.optimizer.param_groups)
    groups = f"{decayed} weights with decay 0.0005, {undecayed} weights and {biases} biases without"
    assert optimizer_line(state, "SGD") == f"optimizer: SGD, lr0 {state.schedule.hyp.lr0:g}; {groups}"


@pytest.mark.parametrize(
    ("hyp", "steps", "said"),
    [
        ({}, 15, "a short run, of 120 optimizer steps: --hyp hyp.small.yaml has hyper-parameters for that"),  # 4 an epoch
        ({}, 265, ""),  # 67 an epoch: 2010
        ({"hyp": "hyp.demo.yaml"}, 15, ""),
    ],
)
def test_a_short_run_is_told_of_its_hyper_parameters(hyp, steps, said):
    schedule = Schedule(Hyp(), epochs=30, steps=steps, batch_size=16)
    assert short_run_line(SimpleNamespace(config=TrainConfig(**hyp), state=SimpleNamespace(schedule=schedule))) == said
