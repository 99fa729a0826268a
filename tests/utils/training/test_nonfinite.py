"""Non-finite steps: skipped without a trace, then undone, then an error."""

from __future__ import annotations

import json
import math

import pytest
import torch

from tests.step_faults import INF, NAN, Spoilt, factor, guard_with_checkpoint, poison, spoil_labels
from tests.tiny_training import differing, new_state, state_of, train
from utils.errors import UserError
from utils.training.events import Events
from utils.training.nonfinite import NonFiniteGuard, is_finite


def test_a_skipped_step_leaves_no_trace(tmp_path):
    state = new_state(events=Events(tmp_path / "events.jsonl"))
    states = []
    watch = lambda: states.append(state_of(state))  # noqa: E731
    spoilt = factor(state, NAN)
    train(state, 1, Spoilt({2: lambda: (watch(), spoilt())[1], 3: watch}))
    assert differing(*states) == []
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["what"], event["where"]) == ("step skipped", "loss", "epoch 0, batch 2")
    assert event["files"] == ["0_2_0.jpg", "0_2_1.jpg", "0_2_2.jpg", "0_2_3.jpg"]
    assert is_finite(state)


def test_a_bad_batch_does_not_show_in_the_mean_loss():
    good, bad = new_state(), new_state()
    a = train(good, 1)[0]
    b = train(bad, 1, Spoilt({3: factor(bad, NAN)}))[0]
    assert all(math.isfinite(v) and v == pytest.approx(a[k], rel=0.1) for k, v in b.items())


@pytest.mark.parametrize("where", ["weight", "class weight", "statistics", "momentum"])
def test_lasting_damage_is_undone_at_once(where, tmp_path, caplog):
    state = new_state(events=Events(tmp_path / "events.jsonl"))
    train(state, 1)
    guard, times = guard_with_checkpoint(state)
    train(state, 1, Spoilt({2: lambda: poison(state, where)}), guard)
    assert len(times) == 1
    assert is_finite(state)
    assert "restored the weights of epoch 0, batch 0" in caplog.text
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert event["event"] == "rolled back"
    assert ".jpg" in " ".join(event["files"])


@pytest.mark.parametrize("where", ["weight", "statistics", "momentum", "ema"])
def test_nothing_bad_is_there_to_be_saved(where):
    state = new_state()
    train(state, 1)
    guard, times = guard_with_checkpoint(state)
    poison(state, where)
    assert not is_finite(state)
    guard.check_state(0)
    assert len(times) == 1
    assert is_finite(state)
    guard.check_state(0)
    assert len(times) == 1


def test_three_bad_steps_restore_the_checkpoint_twice_then_training_stops():
    state = new_state()
    guard, times = guard_with_checkpoint(state)
    train(state, 1, Spoilt({1: factor(state, INF), 2: factor(state, NAN), 4: factor(state, NAN), 5: factor(state, -INF)}), guard)
    assert times == []
    train(state, 1, Spoilt({k: factor(state, NAN) for k in (0, 1, 2)}), guard)
    assert len(times) == 1
    train(state, 1, Spoilt({k: factor(state, NAN) for k in (0, 1, 2)}), guard)
    assert len(times) == 2
    with pytest.raises(UserError, match=r"restoring the checkpoint 2 times did not help.*0_2_0\.jpg"):
        train(state, 1, Spoilt({k: factor(state, NAN) for k in (0, 1, 2)}), guard)
    assert is_finite(state)


def test_without_a_checkpoint_the_third_is_the_end():
    state = new_state()
    before = state_of(state)
    with pytest.raises(UserError, match=r"the loss is not finite in epoch 0, batch 2, and there is no checkpoint.*lower --lr0.*0_2_0\.jpg"):
        train(state, 1, Spoilt({k: factor(state, NAN) for k in range(6)}))
    assert differing(state_of(state), before) == []


def test_targets_that_are_nan():
    state = new_state()
    train(state, 1, Spoilt({2: lambda: spoil_labels}))
    assert is_finite(state)


def test_an_infinite_gradient_of_a_finite_loss():
    state = new_state()
    guard = NonFiniteGuard(state)
    weight = next(state.model.parameters())
    handles = []
    spoil = {1: lambda: handles.append(weight.register_hook(lambda g: g * INF)), 2: lambda: handles.pop().remove()}
    train(state, 1, Spoilt(spoil), guard)
    assert (is_finite(state), guard.bad_steps) == (True, 0)


def test_a_loss_scale_that_is_too_high_is_no_fault():
    state = new_state()
    state.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, enabled=True)
    guard = NonFiniteGuard(state)
    train(state, 1, guard=guard)
    assert state.scaler.get_scale() < 3e38
    assert (is_finite(state), guard.bad_steps) == (True, 0)
