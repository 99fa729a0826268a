"""Steps that are not finite: skipped without a trace, then undone, then given up."""

from __future__ import annotations

import json
import math

import pytest
import torch

from tests.harm import INF, NAN, Spoilt, factor, poison, spoil_labels, with_checkpoint
from tests.trainees import differing, new_trainee, state_of, train
from utils.errors import UserError
from utils.training.events import Events
from utils.training.nonfinite import Guard, sound


def test_a_skipped_step_leaves_no_trace(tmp_path):
    trainee = new_trainee(events=Events(tmp_path / "events.jsonl"))
    states = []
    watch = lambda: states.append(state_of(trainee))  # noqa: E731
    spoilt = factor(trainee, NAN)
    train(trainee, 1, Spoilt({2: lambda: (watch(), spoilt())[1], 3: watch}))
    assert differing(*states) == []
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["what"], event["where"]) == ("step skipped", "loss", "epoch 0, batch 2")
    assert event["files"] == ["0_2_0.jpg", "0_2_1.jpg", "0_2_2.jpg", "0_2_3.jpg"]
    assert sound(trainee)


def test_a_bad_batch_does_not_show_in_the_mean_loss():
    good, bad = new_trainee(), new_trainee()
    a = train(good, 1)[0]
    b = train(bad, 1, Spoilt({3: factor(bad, NAN)}))[0]
    assert all(math.isfinite(v) and v == pytest.approx(a[k], rel=0.1) for k, v in b.items())


@pytest.mark.parametrize("where", ["weight", "class weight", "statistics", "momentum"])
def test_lasting_damage_is_undone_at_once(where, caplog):
    trainee = new_trainee()
    train(trainee, 1)
    times = with_checkpoint(trainee)
    train(trainee, 1, Spoilt({2: lambda: poison(trainee, where)}))
    assert len(times) == 1
    assert sound(trainee)
    assert "back to the weights of epoch 0, batch 0" in caplog.text


@pytest.mark.parametrize("where", ["weight", "statistics", "momentum", "average"])
def test_nothing_bad_is_there_to_be_saved(where):
    trainee = new_trainee()
    train(trainee, 1)
    times = with_checkpoint(trainee)
    poison(trainee, where)
    assert not sound(trainee)
    trainee.guard.inspect(trainee, 0)
    assert len(times) == 1
    assert sound(trainee)
    trainee.guard.inspect(trainee, 0)
    assert len(times) == 1


def test_three_in_a_row_go_back_and_the_third_time_is_the_end():
    trainee = new_trainee()
    times = with_checkpoint(trainee)
    train(trainee, 1, Spoilt({1: factor(trainee, INF), 2: factor(trainee, NAN), 4: factor(trainee, NAN), 5: factor(trainee, -INF)}))
    assert times == []
    train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in (0, 1, 2)}))
    assert len(times) == 1
    train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in (0, 1, 2)}))
    assert len(times) == 2
    with pytest.raises(UserError, match=r"going back to the checkpoint 2 times did not help.*0_2_0\.jpg"):
        train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in (0, 1, 2)}))
    assert sound(trainee)


def test_without_a_checkpoint_the_third_is_the_end():
    trainee = new_trainee()
    before = state_of(trainee)
    with pytest.raises(UserError, match=r"the loss is not finite in epoch 0, batch 2, and there is no checkpoint.*lower --lr0.*0_2_0\.jpg"):
        train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in range(6)}))
    assert differing(state_of(trainee), before) == []


def test_labels_that_are_no_numbers():
    trainee = new_trainee()
    train(trainee, 1, Spoilt({2: lambda: spoil_labels}))
    assert sound(trainee)


def test_an_infinite_gradient_of_a_finite_loss():
    trainee = new_trainee(guard=Guard())
    weight = next(trainee.model.parameters())
    handles = []
    spoil = {1: lambda: handles.append(weight.register_hook(lambda g: g * INF)), 2: lambda: handles.pop().remove()}
    train(trainee, 1, Spoilt(spoil))
    assert (sound(trainee), trainee.guard.in_a_row) == (True, 0)


def test_a_loss_scale_that_is_too_high_is_no_fault():
    trainee = new_trainee()
    trainee.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, enabled=True)
    train(trainee, 1)
    assert trainee.scaler.get_scale() < 3e38
    assert (sound(trainee), trainee.guard.in_a_row) == (True, 0)
